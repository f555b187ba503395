"""From a prompt to a waveform: tokenizers, the three stages, the codec's decoder (AudioLM, section III-D)."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.bundle import TEMPERATURE, Bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.request import (
    ACOUSTIC,
    CONTINUATION,
    DEFAULT_PROMPT_SECONDS,
    FINE,
    PAPER_TEMPERATURES,
    STAGE_NUMBERS,
    UNCONDITIONAL,
    Request,
    as_waveform,
)
from audiolm_jax.generation.sampling import row_keys
from audiolm_jax.generation.stage_sampler import StageSampler
from audiolm_jax.generation.stages import add_fine, continue_coarse, continue_semantic
from audiolm_jax.tokens.alignment import collapse, joint_period_seconds, num_frames, token_rate_hz

# A stage that has no number and no temperature of its own draws as the one that predicts the same levels.
_DRAWN_AS = {"acoustic": "coarse"}
DEFAULT_SECONDS = 7.0
# Frames of a run of equal semantic tokens where neither bundle nor prompt tell.
DEFAULT_MEAN_RUN_FRAMES = 1.5
# The training data's mean run counts as much as so many runs of the prompt; three seconds of speech hold about as many.
TRAINING_RUNS = 50
# Name in a bundle's provenance of the mean over its training data.
MEAN_RUN_FRAMES = "semantic_mean_run_frames"

# (stage name, tokens drawn so far, tokens to draw); rows of a batch count once
OnProgress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Generation:
    """One generated sample, with the tokens it was made of.

    Attributes:
        waveform: prompt (as the codec renders it) and continuation, at the codec's rate.
        prompt_seconds: how much of the waveform is the prompt; 0 without an acoustic prompt.
        semantic_tokens: int32[T_s], full rate, prompt and continuation; none in mode "fine" and from an acoustic-only
            bundle, which need none.
        acoustic_tokens: int32[T_a, Q], prompt and continuation.
        sample_index: which of the request's samples this is.
    """

    waveform: Waveform
    prompt_seconds: float
    semantic_tokens: np.ndarray
    acoustic_tokens: np.ndarray
    sample_index: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Given:
    """A request's budget and what its prompt gives."""

    num_samples: int  # of the result, at the codec's rate
    total_frames: int  # acoustic
    semantic_tokens: np.ndarray  # int[T_s], known
    acoustic_tokens: np.ndarray  # int[T_a, Q], known
    fine_frames: int  # of the known acoustic tokens, those whose fine levels are known too


class AudioLM:
    """A trained system that generates.

        lm = AudioLM.load("small")
        waveform = lm.generate(read_audio("prompt.wav"), seconds=4.0, seed=1)
    """

    def __init__(self, bundle: Bundle):
        """Lays out the language models' weights for decoding.

        Raises:
            UserError: the bundle has neither semantic and coarse stage nor an acoustic one in their place, or both, or
                its stages predict more levels than its codec has.
        """
        words = [name for name in ("semantic", "coarse") if name in bundle.stages]
        missing = [name for name in ("semantic", "coarse") if name not in bundle.stages]
        if "acoustic" in bundle.stages and words:
            raise UserError(f"bundle {bundle.name} has an acoustic stage and a {words[0]} stage, but the one stands in "
                            "place of the other; export two bundles")
        if missing and "acoustic" not in bundle.stages:
            raise UserError(f"bundle {bundle.name} has no {' and no '.join(missing)} stage, so it cannot generate")
        levels = bundle.stages[bundle.coarse_stage_name].target.num_levels
        if "fine" in bundle.stages:
            levels += bundle.stages["fine"].target.num_levels
        if levels > bundle.codec.num_quantizers:
            raise UserError(f"the stages of {bundle.name} predict {levels} levels, its codec has fewer")
        self.bundle = bundle
        self._num_levels = levels
        self._decoders = {
            name: StageDecoder(lm.model, lm.params) for name, lm in bundle.language_models.items()
        }

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "AudioLM":
        """A bundle's system; see `Bundle.load` for names and errors."""
        return cls(Bundle.load(name_or_dir))

    def generate(
        self,
        prompt: Waveform | str | os.PathLike | np.ndarray | None = None,
        mode: str = CONTINUATION,
        prompt_seconds: float = DEFAULT_PROMPT_SECONDS,
        seconds: float | None = None,
        num_samples: int = 1,
        seed: int = 0,
        temperature: float | tuple[float, float, float] | None = None,
        top_k: int | tuple[int, int, int] = 0,
        top_p: float | tuple[float, float, float] = 1.0,
        on_progress: OnProgress | None = None,
        progress: bool = False,
        sample_rate_hz: int | None = None,
    ) -> Waveform | list[Waveform]:
        """Generates sound (AudioLM, section III-D).

        Args:
            prompt: sound of any rate, a file, or samples [T] with their `sample_rate_hz`. In mode "continuation" its
                first `prompt_seconds` are continued; it is cut first and tokenised then, so that no token has heard
                what follows. In mode "acoustic" the whole of it gives the semantic tokens, and voice and recording are
                drawn anew; in mode "fine" it gives the coarse tokens too, and only the fine ones are drawn anew. None
                in mode "unconditional".
            mode: "continuation", "acoustic", "unconditional" or "fine".
            prompt_seconds: how much of a longer prompt is used, in mode "continuation".
            seconds: length of what is new, 7 by default. In modes "acoustic" and "fine" how much of the prompt to
                speak again, all of it by default.
            num_samples: independent samples; each depends on `seed` and its index alone.
            seed: 0 .. 2^32 - 1.
            temperature, top_k, top_p: one number, or one for each of the semantic, coarse and fine stage; see
                `SamplingSettings` for their meaning and order. Without a temperature the bundle's own is taken, and
                the paper's (0.6, 0.8, 0.6) where the bundle names none: small models need more than the paper's.
            on_progress: called with (stage name, tokens drawn, tokens to draw).
            progress: whether to show a bar per stage on stderr.
            sample_rate_hz: of a prompt that is an array of samples; integers are scaled as `Waveform` does it.

        Returns:
            A Waveform at the codec's rate, or a list of them if `num_samples` is above 1. In mode "continuation" it
            begins with the prompt as the codec renders it, and is as long as the prompt used and `seconds` together.

        Raises:
            UserError: an argument is out of range, or the prompt is too short or no audio file.
        """
        prompt = as_waveform(prompt, sample_rate_hz)
        request = Request(prompt, mode, prompt_seconds, seconds, num_samples, seed, temperature, top_k, top_p)
        waveforms = [one.waveform for one in self.generations(request, on_progress, progress)]
        return waveforms[0] if request.num_samples == 1 else waveforms

    def with_defaults(self, request: Request) -> Request:
        """The request with what it leaves to the bundle filled in."""
        if request.temperature is not None:
            return request
        return dataclasses.replace(request, temperature=default_temperature(self.bundle))

    def generations(
        self, request: Request, on_progress: OnProgress | None = None, progress: bool = False
    ) -> list[Generation]:
        """What `generate` does, with the tokens; one `Generation` per sample."""
        return self.generations_together([request], on_progress, progress)[0]

    def generations_together(
        self,
        requests: Sequence[Request],
        on_progress: OnProgress | None = None,
        progress: bool = False,
        fixed_rows: int | None = None,
    ) -> list[list[Generation]]:
        """What `generations` does for every request, with samples of different requests in one batch.

        Args:
            requests: of one mode, temperature, top_k and top_p.
            on_progress, progress: as for `generate`; of all requests together.
            fixed_rows: see `StageSampler`; with it, a request gives the same samples to the last bit whatever the
                other requests are.

        Returns:
            For each request, one `Generation` per sample.

        Raises:
            UserError: as `generate`.
        """
        requests = [self.with_defaults(request) for request in requests]
        if not requests:
            return []
        mode, sampling = requests[0].mode, requests[0].sampling
        if any((request.mode, request.sampling) != (mode, sampling) for request in requests):
            raise ValueError("requests that are generated together must have one mode and one way to draw")
        given = [self._given(request) for request in requests]
        with _Bars(on_progress, progress) as show:
            samplers = {
                name: StageSampler(
                    decoder, sampling[_as_drawn(name)], _keys(requests, name), show.of_stage(name), fixed_rows
                )
                for name, decoder in self._decoders.items()
            }
            rows = [one for one, request in zip(given, requests, strict=True) for _ in range(request.num_samples)]
            semantic = self._semantic(samplers, mode, rows)
            acoustic = self._acoustic(samplers, semantic, rows)
        made = iter(zip(rows, semantic, acoustic, strict=True))
        return [
            [self._generation(*next(made), index) for index in range(request.num_samples)] for request in requests
        ]

    def _semantic(self, samplers: dict[str, StageSampler], mode: str, rows: list[_Given]) -> list[np.ndarray]:
        """Semantic tokens of each row, as many as its acoustic frames need; none without a semantic stage."""
        if "semantic" not in samplers:
            return [row.semantic_tokens for row in rows]
        semantic_hz = self.bundle.stages["semantic"].target.frames_hz
        totals = [_num_frames_at(row.total_frames, semantic_hz, self._acoustic_hz) for row in rows]
        known = [row.semantic_tokens[:total] for row, total in zip(rows, totals, strict=True)]
        if mode in (ACOUSTIC, FINE):
            return known
        runs = [mean_run_frames(self.bundle, tokens) for tokens in known]
        return continue_semantic(samplers["semantic"], known, totals, runs)

    def _acoustic(
        self, samplers: dict[str, StageSampler], semantic: list[np.ndarray], rows: list[_Given]
    ) -> list[np.ndarray]:
        """All levels of each row: int32[T_a, Q]."""
        name = self.bundle.coarse_stage_name
        levels = self.bundle.stages[name].target.num_levels
        known = [row.acoustic_tokens[:, :levels] for row in rows]
        coarse = continue_coarse(samplers[name], semantic, known, [row.total_frames for row in rows])
        if "fine" not in samplers:
            return coarse
        drawn = add_fine(samplers["fine"], coarse, [row.fine_frames for row in rows])
        known = [row.acoustic_tokens[: row.fine_frames, levels : self._num_levels] for row in rows]
        fine = map(np.concatenate, zip(known, drawn, strict=True))
        return [np.concatenate(parts, axis=1) for parts in zip(coarse, fine, strict=True)]

    def _generation(self, given: _Given, semantic: np.ndarray, acoustic: np.ndarray, index: int) -> Generation:
        codec = self.bundle.codec
        return Generation(
            waveform=self._decode(acoustic, given.num_samples),
            prompt_seconds=given.fine_frames * codec.hop_samples / codec.sample_rate_hz,
            semantic_tokens=semantic,
            acoustic_tokens=acoustic,
            sample_index=index,
        )

    @property
    def _acoustic_hz(self):
        return token_rate_hz(self.bundle.codec.sample_rate_hz, self.bundle.codec.hop_samples)

    def _given(self, request: Request) -> _Given:
        """Tokenises the prompt and counts frames."""
        codec = self.bundle.codec
        if request.mode == UNCONDITIONAL:
            length = round((request.seconds or DEFAULT_SECONDS) * codec.sample_rate_hz)
            return self._nothing_given(length, np.zeros(0, np.int32))
        if request.mode in (ACOUSTIC, FINE):
            prompt = resample(_cut(request.prompt, request.seconds), codec.sample_rate_hz)
            _refuse_empty(prompt, codec.hop_samples)
            if request.mode == ACOUSTIC:
                if "coarse" not in self.bundle.stages:
                    raise UserError(f"bundle {self.bundle.name} has no coarse stage, which mode acoustic needs: its "
                                    "acoustic stage knows no semantic tokens")
                return self._nothing_given(len(prompt.samples), semantic_tokens(self.bundle, prompt))
            return self._coarse_given(prompt)
        # Cut first, tokenise then: no token may have heard what follows the prompt.
        prompt = resample(_cut(request.prompt, request.prompt_seconds), codec.sample_rate_hz)
        period_samples = joint_period_samples(self.bundle)
        _refuse_empty(prompt, period_samples)
        length = len(prompt.samples) + round((request.seconds or DEFAULT_SECONDS) * codec.sample_rate_hz)
        # A last partial frame would be padded with silence in the middle of the result; it is drawn instead.
        whole = len(prompt.samples) // period_samples * period_samples
        prompt = Waveform(prompt.samples[:whole], codec.sample_rate_hz)
        return _Given(
            length,
            num_frames(length, codec.hop_samples),
            semantic_tokens(self.bundle, prompt) if "semantic" in self.bundle.stages else np.zeros(0, np.int32),
            encode_chunked(codec, self.bundle.codec_params, prompt.samples[None])[0],
            fine_frames=whole // codec.hop_samples,
        )

    def _coarse_given(self, prompt: Waveform) -> _Given:
        """All coarse tokens of a prompt, and nothing else that is needed."""
        if "fine" not in self.bundle.stages:
            raise UserError(f"bundle {self.bundle.name} has no fine stage, which mode fine needs")
        tokens = encode_chunked(self.bundle.codec, self.bundle.codec_params, prompt.samples[None])[0]
        return _Given(len(prompt.samples), len(tokens), np.zeros(0, np.int32), tokens, fine_frames=0)

    def _nothing_given(self, length: int, semantic_tokens: np.ndarray) -> _Given:
        codec = self.bundle.codec
        none = np.zeros((0, codec.num_quantizers), np.int32)
        return _Given(length, max(num_frames(length, codec.hop_samples), 1), semantic_tokens, none, fine_frames=0)

    def _decode(self, tokens: np.ndarray, num_samples: int) -> Waveform:
        # One sample at a time: a row's samples must not depend on how many others there are.
        samples = decode_chunked(self.bundle.codec, self.bundle.codec_params, tokens[None])[0]
        return Waveform(samples[:num_samples], self.bundle.codec.sample_rate_hz)


def default_temperature(bundle: Bundle) -> tuple[float, float, float]:
    """Of the semantic, coarse and fine stage: the bundle's own, or the paper's where it names none."""
    return tuple(bundle.provenance.get(TEMPERATURE, PAPER_TEMPERATURES))


def semantic_tokens(bundle: Bundle, waveform: Waveform) -> np.ndarray:
    """int32[T_s] of sound of any rate, repeats not collapsed."""
    samples = resample(waveform, bundle.semantic.sample_rate_hz).samples
    return np.asarray(bundle.semantic.tokenize(bundle.semantic_params, samples[None]))[0]


def joint_period_samples(bundle: Bundle) -> int:
    """Samples at the codec's rate after which both of a bundle's streams have whole frames."""
    rates = (token_rate_hz(part.sample_rate_hz, part.hop_samples) for part in (bundle.semantic, bundle.codec))
    return int(joint_period_seconds(*rates) * bundle.codec.sample_rate_hz)


def mean_run_frames(bundle: Bundle, prompt: np.ndarray) -> float:
    """Frames per run of equal semantic tokens: the training data's blended with those of the prompt, int[T], else a
    guess."""
    frames, runs = len(prompt), len(collapse(prompt)[0])
    stored = bundle.provenance.get(MEAN_RUN_FRAMES)
    if stored is None:
        return frames / runs if runs else DEFAULT_MEAN_RUN_FRAMES
    return (frames + TRAINING_RUNS * max(float(stored), 1.0)) / (runs + TRAINING_RUNS)


def _keys(requests: Sequence[Request], stage: str):
    """[N] keys of all samples of all requests, for the draws of one stage."""
    return jnp.concatenate(
        [row_keys(one.seed, np.arange(one.num_samples), STAGE_NUMBERS[_as_drawn(stage)]) for one in requests]
    )


def _as_drawn(stage: str) -> str:
    """The stage whose number and settings another one takes; itself for the three of the paper."""
    return _DRAWN_AS.get(stage, stage)


def _num_frames_at(frames: int, rate_hz, other_rate_hz) -> int:
    """Frames at `rate_hz` that cover a number of frames at `other_rate_hz`."""
    return math.ceil(frames * rate_hz / other_rate_hz)


def _cut(waveform: Waveform, seconds: float | None) -> Waveform:
    if seconds is None:
        return waveform
    return Waveform(waveform.samples[: round(seconds * waveform.sample_rate_hz)], waveform.sample_rate_hz)


def _refuse_empty(prompt: Waveform, least_samples: int) -> None:
    if len(prompt.samples) < least_samples:
        least_seconds = least_samples / prompt.sample_rate_hz
        raise UserError(
            f"{prompt.seconds:.3f} s of prompt are too short; give at least {least_seconds:.3f} s, in file and flags"
        )


class _Bars:
    """One bar per stage, and the caller's `on_progress`."""

    def __init__(self, on_progress: OnProgress | None, visible: bool):
        self._on_progress, self._visible = on_progress, visible
        self._bars: dict[str, tqdm] = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for bar in self._bars.values():
            bar.close()

    def of_stage(self, name: str) -> Callable[[int, int], None]:
        """The callback of one stage."""

        def on_tokens(drawn: int, to_draw: int) -> None:
            if self._on_progress is not None:
                self._on_progress(name, drawn, to_draw)
            if self._visible:
                if name not in self._bars:
                    self._bars[name] = tqdm(total=to_draw, desc=f"{name:8s}", unit="token")
                self._bars[name].update(drawn - self._bars[name].n)

        return on_tokens
