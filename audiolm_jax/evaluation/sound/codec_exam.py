"""The examination of a codec in training: sound and use of codes on held-out recordings, and what has gone wrong.

The loss of a codec falls while levels of its quantizer die, and the discriminators may make it noise; neither is heard
in a mean. So at every evaluation whole held-out recordings go through it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.codec.learner import SoundStreamLearner
from audiolm_jax.codec.soundstream import SoundStream
from audiolm_jax.data.corpora.utterances import read_utterance
from audiolm_jax.data.feed.feed import AudioFeed
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import shared_out
from audiolm_jax.evaluation.sound.code_usage import code_counts, code_perplexity, code_usage
from audiolm_jax.evaluation.sound.signal_quality import log_mel_distance, si_sdr_db
from audiolm_jax.evaluation.sound.visqol import VISQOL_MIN_SECONDS, visqol_is_installed, visqol_speech
from audiolm_jax.evaluation.words.asr import Recogniser, load_recogniser
from audiolm_jax.evaluation.words.words_changed import words_changed
from audiolm_jax.ranges import Count, NotNegative, Positive, Share
from audiolm_jax.training.examination import Examination, judged_by_process_0
from audiolm_jax.training.state import TrainState

# A decoded clip with less than this share of the original's amplitude is silent, with more than this many times it has
# blown up.
_SILENT, _LOUD = 0.03, 4.0
# A level that leaves more of the signal than it was given by this factor makes it worse. A level is trained on what the
# ones before it leave, and one that has learned nothing leaves all of it.
_GROWTH = 1.02


@dataclasses.dataclass(frozen=True)
class CodecExam:
    """Examiner of a SoundStream (see `training.examination`), on speakers that are held out.

    Attributes:
        num_clips: recordings that are decoded and listened to, one of every speaker before a second of any.
        clip_seconds: their longest; what is longer is cut.
        usage_seconds: sound whose codes are counted, these clips among it.
        least_usage: a level that uses a smaller share of its codes has collapsed.
        least_visqol: a codec without faults passes with this mean ViSQOL (speech mode, exponential mapping).
        asr: a recogniser (see `evaluation.words.asr.load_recogniser`), whose words in decoded clips are compared with
            those in the originals; None for none.
    """

    num_clips: Count = 8
    clip_seconds: Positive = 8.0
    usage_seconds: NotNegative = 600.0
    least_usage: Share = 0.1
    least_visqol: NotNegative = 3.0
    asr: str | None = None

    def __post_init__(self):
        if self.asr is not None:
            _recogniser(self.asr)  # one that is missing is told before hours of training

    def __call__(self, learner: SoundStreamLearner, feed: AudioFeed, state: TrainState) -> Examination | None:
        """As `training.examination.Examiner`; None before the codebooks have started, or where nothing is held out."""
        def judge(params: Any) -> Examination | None:
            started = bool(np.any(params["codebooks"]))
            return self._examined(learner.codec(), params, feed, int(state.step)) if started else None

        return judged_by_process_0(learner.codec_params(state), judge)

    def _examined(self, codec: SoundStream, params: Any, feed: AudioFeed, step: int) -> Examination | None:
        recordings = self._recordings(feed, codec)
        if not recordings:
            return None
        figures, faults = self._use_of_codes(codec, params, recordings)
        clips = [samples[: round(self.clip_seconds * codec.sample_rate_hz)] for samples in recordings[: self.num_clips]]
        decoded, residuals = _through(codec, params, clips)
        faults += _growing_levels(residuals)
        faults += _wrong_levels(clips, decoded)
        if all(np.all(np.isfinite(samples)) for samples in decoded):
            figures |= self._sound(clips, decoded, codec.sample_rate_hz)
        passed = None if not faults and "visqol" not in figures else (
            not faults and figures["visqol"] >= self.least_visqol
        )
        return Examination(step, figures, tuple(faults), passed)

    def _recordings(self, feed: AudioFeed, codec: SoundStream) -> list[np.ndarray]:
        """Held-out recordings float32[T] that can be read, the clips first, for `usage_seconds` in all."""
        heldout = [utterance for corpus in feed.corpora for utterance in corpus.heldout]
        found, seconds = [], 0.0
        for utterance in shared_out(heldout, None):
            if len(found) >= self.num_clips and seconds >= self.usage_seconds:
                break
            try:
                samples = read_utterance(utterance, codec.sample_rate_hz).samples
            except UserError:
                continue  # the feed tells it when it draws it
            if len(samples) >= VISQOL_MIN_SECONDS * codec.sample_rate_hz and np.any(samples):
                found.append(np.asarray(samples[: 60 * codec.sample_rate_hz], np.float32))
                seconds += len(found[-1]) / codec.sample_rate_hz
        return found

    def _use_of_codes(
        self, codec: SoundStream, params: Any, recordings: Sequence[np.ndarray]
    ) -> tuple[dict[str, float], list[str]]:
        """Usage and perplexity of every level, and which have collapsed."""
        tokens = [encode_chunked(codec, params, samples[None])[0] for samples in recordings]
        counts = code_counts(np.concatenate(tokens), codec.codebook_size)
        usage, perplexity = code_usage(counts), code_perplexity(counts)
        # Few frames cannot use all codes, however well these are spread.
        most = min(1.0, counts[0].sum() / codec.codebook_size)
        faults = [
            f"level {level} of the quantizer has collapsed: it uses {share:.1%} of its codes"
            for level, share in enumerate(usage, 1)
            if share < self.least_usage * most
        ]
        figures = {"usage": float(usage.min()), "perplexity": float(perplexity.min())}
        for level, (share, number) in enumerate(zip(usage, perplexity, strict=True), 1):
            figures |= {f"usage/level_{level:02d}": float(share), f"perplexity/level_{level:02d}": float(number)}
        return figures, faults

    def _sound(
        self, clips: Sequence[np.ndarray], decoded: Sequence[np.ndarray], sample_rate_hz: int
    ) -> dict[str, float]:
        """Means over the clips, all levels in use."""
        pairs = list(zip(clips, decoded, strict=True))
        figures = {
            "si_sdr_db": [si_sdr_db(*pair) for pair in pairs],
            "log_mel_distance": [log_mel_distance(*pair, sample_rate_hz) for pair in pairs],
        }
        if visqol_is_installed():
            figures["visqol"] = [visqol_speech(*pair, sample_rate_hz).moslqo for pair in pairs]
        means = {name: float(np.mean(values)) for name, values in figures.items()}
        if self.asr is not None:
            changed = words_changed(_recogniser(self.asr), pairs, sample_rate_hz)
            means |= {} if changed is None else {"words_changed": changed}
        return means


def _through(
    codec: SoundStream, params: Any, clips: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips through the codec, and the mean squares float32[Q + 1] of latents before and after each level."""
    longest = max(map(len, clips))
    samples = np.stack([np.pad(clip, (0, longest - len(clip))) for clip in clips])
    frames = np.array([-(-len(clip) // codec.hop_samples) for clip in clips])
    decoded, residuals = _decoded_and_residuals(codec, params, samples, frames)
    return [np.asarray(row[: len(clip)]) for row, clip in zip(decoded, clips, strict=True)], np.asarray(residuals)


@functools.partial(jax.jit, static_argnums=0)
def _decoded_and_residuals(codec: SoundStream, params: Any, samples: jax.Array, num_frames: jax.Array):
    latents = codec.latents(params, samples)
    quantized = quantizer.quantize(
        latents, params["codebooks"], jnp.full(len(samples), codec.num_quantizers)
    )
    is_sound = jnp.arange(latents.shape[1]) < num_frames[:, None]

    def mean_square(residual):
        return jnp.sum(jnp.mean(jnp.square(residual), axis=-1) * is_sound) / jnp.sum(is_sound)

    squares = [*map(mean_square, quantized.residuals), mean_square(latents - quantized.latents)]
    return codec.decode(params, quantized.tokens), jnp.stack(squares)


def _growing_levels(residuals: np.ndarray) -> list[str]:
    """Faults of levels that make things worse, by the mean squares before and after each."""
    if not np.all(np.isfinite(residuals)):
        return ["the encoder has blown up: its latents are not finite"]
    growth = residuals[1:] / np.maximum(residuals[:-1], 1e-30)
    return [
        f"level {level} of the quantizer has blown up: it leaves {factor:.2f} times the energy that it was given"
        for level, factor in enumerate(growth, 1)
        if factor > _GROWTH
    ]


def _wrong_levels(clips: Sequence[np.ndarray], decoded: Sequence[np.ndarray]) -> list[str]:
    """Faults of loudness, of all clips together."""
    made = np.concatenate(decoded)
    if not np.all(np.isfinite(made)):
        return ["the decoder has blown up: its sound is not finite"]
    powers = [float(np.mean(np.square(samples, dtype=np.float64))) for samples in (made, np.concatenate(clips))]
    ratio = (powers[0] / powers[1]) ** 0.5
    if ratio < _SILENT:
        return [f"the decoder is silent: it has {ratio:.2g} times the amplitude of the originals"]
    if ratio > _LOUD:
        return [f"the decoder has blown up: it has {ratio:.3g} times the amplitude of the originals"]
    return []


@functools.lru_cache(maxsize=1)
def _recogniser(name: str) -> Recogniser:
    return load_recogniser(name)
