"""The stages of AudioLM as data: what is the prefix, what is predicted, how long, and which ids are legal.

A stage is not a network: one decoder-only Transformer serves all of them (AudioLM, section III-C). Piano, with three
levels of 16384 codes and no fine stage, is `coarse_stage(num_coarse_quantizers=3, codebook_size=16384)`. The model
that piano was compared with, acoustic tokens from acoustic tokens alone, is `acoustic_stage` of the same levels.
"""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any

from audiolm_jax.ranges import Count, Positive
from audiolm_jax.tokens.alignment import joint_period_seconds, token_rate_hz
from audiolm_jax.tokens.layout import ACOUSTIC, SEMANTIC, TokenLayout


@dataclasses.dataclass(frozen=True)
class TokenizerRates:
    """Sample rate and hop of the semantic tokenizer and of the codec."""

    semantic_sample_rate_hz: Count
    semantic_hop_samples: Count
    acoustic_sample_rate_hz: Count
    acoustic_hop_samples: Count

    @property
    def semantic_hz(self) -> Fraction:
        """Semantic frames per second."""
        return token_rate_hz(self.semantic_sample_rate_hz, self.semantic_hop_samples)

    @property
    def acoustic_hz(self) -> Fraction:
        """Acoustic frames per second."""
        return token_rate_hz(self.acoustic_sample_rate_hz, self.acoustic_hop_samples)


# AudioLM, sections III-A and IV-A: w2v-BERT at 25 Hz and SoundStream at 50 Hz, both on 16 kHz.
PAPER_RATES = TokenizerRates(16_000, 640, 16_000, 320)


@dataclasses.dataclass(frozen=True)
class StreamSlice:
    """Levels `first_level .. first_level + num_levels - 1` of one stream, and its frame rate."""

    stream: str
    first_level: int
    num_levels: int
    frames_hz: Fraction


@dataclasses.dataclass(frozen=True)
class Stage:
    """One language-modelling stage.

    A training sequence is the prefix's ids, the target's ids directly after them, and PAD at the end. Only target
    tokens carry loss. The model reads the sequence shifted right by one, with PAD in the first place.

    Attributes:
        name: "semantic", "coarse", "fine" or "acoustic"; names metrics, records of a bundle and gin files.
        layout: ids of this stage's streams and of no other.
        prefix: what is given, None for the semantic stage.
        target: what is predicted.
        crop_seconds: length of a training crop.
        collapse_repeats: whether neighbouring equal semantic tokens are collapsed, after the crop.
        target_eos: whether a target that reaches the real end of its utterance is closed with EOS. Coarse and fine
            targets need none: their length follows from the frames of their prefix's audio.
        length_multiple: `sequence_length` is rounded up to a multiple of this.
    """

    name: str
    layout: TokenLayout
    prefix: StreamSlice | None
    target: StreamSlice
    crop_seconds: Fraction
    collapse_repeats: bool
    target_eos: bool
    length_multiple: Count = 1

    def __post_init__(self):
        for part in self.streams:
            levels = self.layout.num_levels(part.stream)
            if part.num_levels < 1 or part.first_level < 0 or part.first_level + part.num_levels > levels:
                raise ValueError(f"stage {self.name}: {part} does not fit a layout with {levels} {part.stream} levels")
        if self.crop_periods < 1:
            raise ValueError(f"stage {self.name}: a crop of {self.crop_seconds} s is shorter than one joint frame")
        if self.length_multiple < 1:
            raise ValueError(f"stage {self.name}: length_multiple must be at least 1, got {self.length_multiple}")

    @property
    def streams(self) -> tuple[StreamSlice, ...]:
        """Prefix (if any) and target."""
        return (self.target,) if self.prefix is None else (self.prefix, self.target)

    @functools.cached_property
    def period_seconds(self) -> Fraction:
        """The joint period of the stage's streams; crops start at its multiples."""
        return joint_period_seconds(*(part.frames_hz for part in self.streams))

    @functools.cached_property
    def crop_periods(self) -> int:
        """Joint periods of a training crop."""
        return math.floor(self.crop_seconds / self.period_seconds)

    def _crop_tokens(self, part: StreamSlice) -> int:
        frames = self.crop_periods * self.period_seconds * part.frames_hz
        return int(frames) * part.num_levels

    @property
    def max_prefix_length(self) -> int:
        """Most prefix tokens of a training sequence (all of them, when repeats are not collapsed)."""
        return 0 if self.prefix is None else self._crop_tokens(self.prefix)

    @property
    def max_target_length(self) -> int:
        """Most target tokens of a training sequence, EOS included where the stage has one."""
        return self._crop_tokens(self.target) + int(self.target_eos)

    @property
    def max_length(self) -> int:
        """Most tokens of a training sequence, exactly."""
        return self.max_prefix_length + self.max_target_length

    @functools.cached_property
    def sequence_length(self) -> int:
        """S of a training batch: `max_length` rounded up to `length_multiple`."""
        return -(-self.max_length // self.length_multiple) * self.length_multiple

    def prefix_length(self, num_frames: int) -> int:
        """Prefix tokens of `num_frames` frames (before any collapse of repeats)."""
        return 0 if self.prefix is None else num_frames * self.prefix.num_levels

    def target_length(self, num_frames: int) -> int:
        """Target tokens of `num_frames` frames, without EOS: the exact budget of a generation."""
        return num_frames * self.target.num_levels

    def allowed(self, position: Any, allow_eos: Any = True) -> Any:
        """Which ids may stand at a target position: bool[..., padded_vocab_size].

        Args:
            position: int or int[...], position in the target counted from its first token; may be traced.
            allow_eos: bool or bool[...], may be traced; EOS is also never legal inside a frame or in a stage without
                EOS.
        """
        target = self.target
        allow_eos = allow_eos if self.target_eos else False
        return self.layout.allowed(target.stream, position, target.first_level, target.num_levels, allow_eos)


def semantic_stage(
    rates: TokenizerRates = PAPER_RATES,
    semantic_vocab: Count = 1024,
    crop_seconds: Positive = 30,
    collapse_repeats: bool = True,
    length_multiple: Count = 1,
) -> Stage:
    """Stage 1, p(z_t | z_<t): semantic tokens alone, closed with EOS at the end of an utterance."""
    return Stage(
        name="semantic",
        layout=TokenLayout(semantic_vocab=semantic_vocab),
        prefix=None,
        target=StreamSlice(SEMANTIC, 0, 1, rates.semantic_hz),
        crop_seconds=Fraction(str(crop_seconds)),
        collapse_repeats=collapse_repeats,
        target_eos=True,
        length_multiple=length_multiple,
    )


def coarse_stage(
    rates: TokenizerRates = PAPER_RATES,
    semantic_vocab: Count = 1024,
    codebook_size: Count = 1024,
    num_coarse_quantizers: Count = 4,
    crop_seconds: Positive = 10,
    collapse_repeats: bool = True,
    length_multiple: Count = 1,
) -> Stage:
    """Stage 2, p(y^{q<=Q'}_t | z, y_<t, y^{<q}_t): the coarse acoustic levels from all semantic tokens."""
    return Stage(
        name="coarse",
        layout=TokenLayout(semantic_vocab, codebook_size, num_coarse_quantizers),
        prefix=StreamSlice(SEMANTIC, 0, 1, rates.semantic_hz),
        target=StreamSlice(ACOUSTIC, 0, num_coarse_quantizers, rates.acoustic_hz),
        crop_seconds=Fraction(str(crop_seconds)),
        collapse_repeats=collapse_repeats,
        target_eos=False,
        length_multiple=length_multiple,
    )


def acoustic_stage(
    rates: TokenizerRates = PAPER_RATES,
    codebook_size: Count = 1024,
    num_coarse_quantizers: Count = 4,
    crop_seconds: Positive = 10,
    length_multiple: Count = 1,
) -> Stage:
    """p(y^{q<=Q'}_t | y_<t, y^{<q}_t): stage 2 without its semantic tokens, in place of stages 1 and 2.

    The acoustic-only model that AudioLM's preference test on piano compares with. Where the codec has more levels, a
    fine stage adds them.
    """
    return Stage(
        name="acoustic",
        layout=TokenLayout(0, codebook_size, num_coarse_quantizers),
        prefix=None,
        target=StreamSlice(ACOUSTIC, 0, num_coarse_quantizers, rates.acoustic_hz),
        crop_seconds=Fraction(str(crop_seconds)),
        collapse_repeats=False,
        target_eos=False,
        length_multiple=length_multiple,
    )


def fine_stage(
    rates: TokenizerRates = PAPER_RATES,
    codebook_size: Count = 1024,
    num_coarse_quantizers: Count = 4,
    num_quantizers: Count = 12,
    crop_seconds: Positive = 3,
    length_multiple: Count = 1,
) -> Stage:
    """Stage 3, p(y^{q>Q'}_t | all y^{q<=Q'}, y^{q>Q'}_<t, y^{Q'<..<q}_t): the fine levels from the coarse ones."""
    if not 0 < num_coarse_quantizers < num_quantizers:
        raise ValueError(
            f"a fine stage needs 0 < num_coarse_quantizers < num_quantizers, got {num_coarse_quantizers} and "
            f"{num_quantizers}; a codec whose levels are all coarse has no fine stage"
        )
    return Stage(
        name="fine",
        layout=TokenLayout(0, codebook_size, num_quantizers),
        prefix=StreamSlice(ACOUSTIC, 0, num_coarse_quantizers, rates.acoustic_hz),
        target=StreamSlice(ACOUSTIC, num_coarse_quantizers, num_quantizers - num_coarse_quantizers, rates.acoustic_hz),
        crop_seconds=Fraction(str(crop_seconds)),
        collapse_repeats=False,
        target_eos=False,
        length_multiple=length_multiple,
    )
