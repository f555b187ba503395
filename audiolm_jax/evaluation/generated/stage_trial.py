"""What each stage of a system makes of true tokens at a temperature, and what can be measured of it.

- fine: from the coarse tokens of a recording. Its sound is compared with the recording.
- coarse: from all semantic tokens and the acoustic tokens of a prompt. What follows the prompt is compared with what
  followed it in the recording.
- semantic: from the semantic tokens of a prompt. Nothing says what has to follow, but how surprising it should be does:
  a bigram model of other speakers gives true continuations some nats per token, and drawn ones more or fewer.
"""

import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.language.ngrams import NOTHING, LevelTokens, Ngrams
from audiolm_jax.evaluation.measurement import exact_mean
from audiolm_jax.evaluation.recordings import Recording, shared_out
from audiolm_jax.evaluation.sound.signal_quality import log_mel_distance
from audiolm_jax.evaluation.sound.visqol import visqol_is_installed, visqol_speech
from audiolm_jax.evaluation.words.asr import Recogniser
from audiolm_jax.evaluation.words.words_changed import words_changed
from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.pipeline import STAGE_NUMBERS, joint_period_samples, mean_run_frames, semantic_tokens
from audiolm_jax.generation.sampling import SamplingSettings, row_keys
from audiolm_jax.generation.stages import StageSampler, add_fine, continue_coarse, continue_semantic
from audiolm_jax.tokens.alignment import collapse

# Recordings that the bigrams of true speech are counted in, beside the prompts.
_REFERENCES = 200


class TruePrompt(NamedTuple):
    """The start of a held-out recording and what followed.

    `samples` float32[T] at the codec's rate, `semantic` int32[T_s], `acoustic` int32[T_a, Q] of all of it.
    """

    recording: Recording
    samples: np.ndarray
    semantic: np.ndarray
    acoustic: np.ndarray


def true_prompts(
    bundle: Bundle, recordings: Sequence[Recording], prompt_seconds: float, seconds: float, max_recordings: int
) -> list[TruePrompt]:
    """Recordings cut to a prompt and what follows it, both of which are sound, with their true tokens.

    All have one length, which is one program of the codec, of the encoder and of every stage.

    Args:
        bundle: whose tokenizers.
        recordings: those that are shorter are left out; one of every speaker before a second of any.
        prompt_seconds, seconds: of the prompt and of what follows.
        max_recordings: at most so many.

    Raises:
        UserError: there is none of that length, or one cannot be read.
    """
    codec = bundle.codec
    period = joint_period_samples(bundle)
    length = -(-round((prompt_seconds + seconds) * codec.sample_rate_hz) // period) * period
    given = _prompt_samples(bundle, prompt_seconds)
    found: list[TruePrompt] = []
    for recording in shared_out(recordings, None):
        if len(found) == max_recordings:
            break
        samples = np.asarray(resample(recording.read(), codec.sample_rate_hz).samples[:length], np.float32)
        if len(samples) == length and np.ptp(samples[:given]) and np.ptp(samples[given:]):
            acoustic = encode_chunked(codec, bundle.codec_params, samples[None])[0]
            tokens = semantic_tokens(bundle, Waveform(samples, codec.sample_rate_hz))
            found.append(TruePrompt(recording, samples, tokens, acoustic))
    if not found:
        raise UserError(
            f"no held-out recording has {length / codec.sample_rate_hz:g} s of sound, as prompt and continuation need; "
            "change --prompt_seconds, --seconds or --data"
        )
    return found


class SpokenTokens(NamedTuple):
    """Semantic tokens int32[N] of a recording as the semantic stage draws them, and who speaks."""

    speaker: str
    tokens: np.ndarray


def spoken_tokens(bundle: Bundle, recordings: Sequence[Recording]) -> list[SpokenTokens]:
    """Tokens of true speech, shared out among the speakers; recordings that cannot be read are left out.

    They must be as new to the system as the prompts are: a stage knows the very bigrams of its training, and would be
    less surprising by them than any other speech.
    """
    found = []
    for recording in tqdm(shared_out(recordings, _REFERENCES), desc="true speech", disable=not sys.stderr.isatty()):
        try:
            waveform = recording.read()
        except UserError:
            continue
        tokens = semantic_tokens(bundle, resample(waveform, bundle.codec.sample_rate_hz))
        found.append(SpokenTokens(recording.speaker, _as_drawn(bundle, tokens)))
    return found


def _as_drawn(bundle: Bundle, tokens: np.ndarray) -> np.ndarray:
    """Full-rate tokens as the semantic stage draws them."""
    return collapse(tokens)[0] if bundle.stages["semantic"].collapse_repeats else tokens


def _level_tokens(rows: Sequence[np.ndarray]) -> LevelTokens:
    """Rows of tokens as `ngrams` takes them."""
    current = np.concatenate(rows)
    previous = np.concatenate([np.concatenate([[NOTHING], row[:-1]])[: len(row)] for row in rows])
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return LevelTokens(previous.astype(np.int32), current.astype(np.int32), owner.astype(np.int32))


class StageTrial:
    """Draws with each stage of a bundle at any temperature, and measures what comes out."""

    def __init__(self, bundle: Bundle, prompt_seconds: float, seed: int, recogniser: Recogniser | None = None):
        """`bundle` has a semantic and a coarse stage; the recogniser's words are counted where there is one."""
        self._bundle, self._seed, self._recogniser = bundle, seed, recogniser
        self._decoders = {name: StageDecoder(lm.model, lm.params) for name, lm in bundle.language_models.items()}
        self._levels = bundle.stages["coarse"].target.num_levels
        self._given = _prompt_samples(bundle, prompt_seconds)
        self._given_frames = self._given // bundle.codec.hop_samples

    def fine(self, prompts: Sequence[TruePrompt], temperature: float) -> dict[str, float | None]:
        """Figures of whole recordings with true coarse and drawn fine tokens."""
        coarse = [prompt.acoustic[:, : self._levels] for prompt in prompts]
        fine = add_fine(self._sampler("fine", temperature, len(prompts)), coarse, [0] * len(prompts))
        return self._heard(prompts, [np.concatenate(parts, axis=1) for parts in zip(coarse, fine, strict=True)], 0)

    def coarse(
        self, prompts: Sequence[TruePrompt], temperature: float, fine_temperature: float | None
    ) -> dict[str, float | None]:
        """Figures of what follows the prompts, with true semantic tokens; `fine_temperature` None: no fine stage."""
        known = [prompt.acoustic[: self._given_frames] for prompt in prompts]
        acoustic = continue_coarse(
            self._sampler("coarse", temperature, len(prompts)),
            [prompt.semantic for prompt in prompts],
            [each[:, : self._levels] for each in known],
            [len(prompt.acoustic) for prompt in prompts],
        )
        if fine_temperature is not None:
            sampler = self._sampler("fine", fine_temperature, len(prompts))
            drawn = add_fine(sampler, acoustic, [self._given_frames] * len(prompts))
            levels = self._levels + drawn[0].shape[1]
            acoustic = [
                np.concatenate([coarse, np.concatenate([given[:, self._levels : levels], new])], axis=1)
                for coarse, given, new in zip(acoustic, known, drawn, strict=True)
            ]
        return self._heard(prompts, acoustic, self._given)

    def semantic(
        self, prompts: Sequence[TruePrompt], temperature: float, speech: Sequence[SpokenTokens]
    ) -> dict[str, float]:
        """How surprising drawn continuations are, beside the true ones, by the bigrams of other speakers.

        Raises:
            UserError: there is no other speaker.
        """
        stage = self._bundle.stages["semantic"]
        given = int(Fraction(self._given, self._bundle.codec.sample_rate_hz) * stage.target.frames_hz)
        known = [prompt.semantic[:given] for prompt in prompts]
        drawn = continue_semantic(
            self._sampler("semantic", temperature, len(prompts)),
            known,
            [len(prompt.semantic) for prompt in prompts],
            [mean_run_frames(self._bundle, tokens) for tokens in known],
        )
        made, true = [], []
        for prompt, tokens in zip(prompts, drawn, strict=True):
            ngrams = self._ngrams_without(prompt.recording.speaker, speech)
            for nats, row in ((made, tokens), (true, prompt.semantic)):
                nats.append(ngrams.bigram_nats(_level_tokens([_as_drawn(self._bundle, row[given:])])))
        made_nats, true_nats = (float(np.mean(np.concatenate(nats))) for nats in (made, true))
        return {
            "surprise_gap": abs(made_nats - true_nats), "nats_per_token": made_nats, "true_nats_per_token": true_nats
        }  # fmt: skip

    def _ngrams_without(self, speaker: str, speech: Sequence[SpokenTokens]) -> Ngrams:
        """Bigrams of what all others say."""
        rows = [spoken.tokens for spoken in speech if spoken.speaker != speaker]
        if not any(map(len, rows)):
            raise UserError(f"there is no speaker beside {speaker} to count semantic tokens of; give more of them")
        return Ngrams.count(_level_tokens(rows), np.ones(self._bundle.semantic.vocab_size, bool))

    def _sampler(self, name: str, temperature: float, count: int) -> StageSampler:
        keys = row_keys(self._seed, np.arange(count), STAGE_NUMBERS[name])
        return StageSampler(self._decoders[name], SamplingSettings(temperature), keys, lambda drawn, to_draw: None)

    def _heard(
        self, prompts: Sequence[TruePrompt], acoustic: Sequence[np.ndarray], first_sample: int
    ) -> dict[str, float | None]:
        """Means of the figures of sound from a sample on."""
        codec = self._bundle.codec
        pairs = []
        for prompt, tokens in zip(prompts, acoustic, strict=True):
            samples = decode_chunked(codec, self._bundle.codec_params, tokens[None])[0, : len(prompt.samples)]
            pairs.append((prompt.samples[first_sample:], np.asarray(samples[first_sample:], np.float32)))
        rate_hz = codec.sample_rate_hz
        figures: dict[str, float | None] = {}
        figures["log_mel_distance"] = exact_mean(log_mel_distance(*pair, rate_hz) for pair in pairs)
        if visqol_is_installed():
            figures["visqol"] = exact_mean(visqol_speech(*pair, rate_hz).moslqo for pair in pairs)
        if self._recogniser is not None:
            figures["words_changed"] = words_changed(self._recogniser, pairs, rate_hz)
        return figures


def _prompt_samples(bundle: Bundle, prompt_seconds: float) -> int:
    """Samples of a prompt, whole frames of both streams."""
    period = joint_period_samples(bundle)
    return max(round(prompt_seconds * bundle.codec.sample_rate_hz) // period, 1) * period
