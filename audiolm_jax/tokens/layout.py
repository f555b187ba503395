"""The only id arithmetic of the project: which integer stands for which code of which stream and level.

A vocabulary is PAD, EOS, then one disjoint range for the semantic stream and one for every residual level of the
acoustic stream (the offsets o_i of AudioLM, section III-C, as ranges with names). Everything here works on NumPy
arrays and, inside `jax.jit`, on JAX arrays.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

PAD = 0
EOS = 1
NUM_SPECIAL = 2

SEMANTIC = "semantic"
ACOUSTIC = "acoustic"

# `Decoded.stream` holds these numbers.
SPECIAL_STREAM = 0
SEMANTIC_STREAM = 1
ACOUSTIC_STREAM = 2

# Rows of an embedding table in multiples of the TPU's lane count, so that it also shards evenly.
VOCAB_MULTIPLE = 128


class TokenRange(NamedTuple):
    """The ids `start <= id < stop` of one level of one stream."""

    stream: str
    level: int
    start: int
    stop: int


class Decoded(NamedTuple):
    """What ids stand for, all three of the ids' shape.

    `stream` is SPECIAL_STREAM, SEMANTIC_STREAM or ACOUSTIC_STREAM; `level` is the residual level (0 for semantic and
    special ids); `code` is the code inside its level (the id itself for special ids).
    """

    stream: Any
    level: Any
    code: Any


class SplitTokens(NamedTuple):
    """One sequence taken apart: `semantic` int32[T_s], `acoustic` int32[T_a, Q], `ended` if it held an EOS."""

    semantic: np.ndarray
    acoustic: np.ndarray
    ended: bool


def _namespace(value: Any) -> Any:
    """jax.numpy for JAX values (also traced ones), NumPy for the rest, without importing JAX here."""
    return value.__array_namespace__() if hasattr(value, "__array_namespace__") else np


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """Ids of one stage's vocabulary.

    Attributes:
        semantic_vocab: number of semantic clusters, 0 where the stage has no semantic stream.
        codebook_size: codes per residual level of the codec.
        num_quantizers: residual levels in this vocabulary, always levels 0 .. num_quantizers - 1; 0 for none.
    """

    semantic_vocab: int = 0
    codebook_size: int = 0
    num_quantizers: int = 0

    def __post_init__(self):
        if min(self.semantic_vocab, self.codebook_size, self.num_quantizers) < 0:
            raise ValueError(f"sizes of a token layout must not be negative: {self}")
        if (self.codebook_size == 0) != (self.num_quantizers == 0):
            raise ValueError(f"codebook_size and num_quantizers must both be zero or both positive: {self}")
        if self.vocab_size == NUM_SPECIAL:
            raise ValueError("a token layout needs a semantic or an acoustic stream")

    @property
    def vocab_size(self) -> int:
        """Number of ids in use, PAD and EOS included."""
        return NUM_SPECIAL + self.semantic_vocab + self.num_quantizers * self.codebook_size

    @property
    def padded_vocab_size(self) -> int:
        """`vocab_size` rounded up to a multiple of 128: rows of the embedding table and width of the logits."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE

    @property
    def ranges(self) -> tuple[TokenRange, ...]:
        """Every range in id order; they are disjoint and, with PAD and EOS, cover the vocabulary."""
        semantic = [TokenRange(SEMANTIC, 0, NUM_SPECIAL, NUM_SPECIAL + self.semantic_vocab)] * (self.semantic_vocab > 0)
        starts = [self._acoustic_start + level * self.codebook_size for level in range(self.num_quantizers)]
        acoustic = [TokenRange(ACOUSTIC, q, start, start + self.codebook_size) for q, start in enumerate(starts)]
        return tuple(semantic + acoustic)

    @property
    def _acoustic_start(self) -> int:
        return NUM_SPECIAL + self.semantic_vocab

    def num_levels(self, stream: str) -> int:
        """Levels of a stream in this layout: 1 or 0 for semantic, `num_quantizers` for acoustic."""
        if stream not in (SEMANTIC, ACOUSTIC):
            raise ValueError(f"unknown stream {stream!r}; streams are {SEMANTIC!r} and {ACOUSTIC!r}")
        return int(self.semantic_vocab > 0) if stream == SEMANTIC else self.num_quantizers

    def _start_and_size(self, stream: str) -> tuple[int, int]:
        if self.num_levels(stream) == 0:
            raise ValueError(f"this layout has no {stream} stream: {self}")
        if stream == SEMANTIC:
            return NUM_SPECIAL, self.semantic_vocab
        return self._acoustic_start, self.codebook_size

    def encode(self, stream: str, level: Any, codes: Any) -> Any:
        """Ids of codes.

        Args:
            stream: SEMANTIC or ACOUSTIC.
            level: residual level, an int or an integer array that broadcasts with `codes`; 0 for semantic.
            codes: int[...], each in 0 .. size of its level - 1.

        Returns:
            int32[...] ids. NumPy input is checked and raises ValueError outside its range; traced input cannot be.
        """
        start, size = self._start_and_size(stream)
        xp = _namespace(codes)
        if xp is np and isinstance(level, (int, np.integer, np.ndarray)):
            codes = np.asarray(codes)
            if codes.size and (codes.min() < 0 or codes.max() >= size):
                raise ValueError(f"{stream} codes must lie in 0..{size - 1}, got {codes.min()}..{codes.max()}")
            if np.size(level) and (np.min(level) < 0 or np.max(level) >= self.num_levels(stream)):
                raise ValueError(f"{stream} levels must lie in 0..{self.num_levels(stream) - 1}, got {level}")
        return (start + level * size + codes).astype(xp.int32)

    def decode(self, ids: Any) -> Decoded:
        """What each id stands for.

        Args:
            ids: int[...]. NumPy input is checked and raises ValueError for ids that the layout does not have.
        """
        xp = _namespace(ids)
        if xp is np:
            ids = np.asarray(ids)
            if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
                raise ValueError(f"ids must lie in 0..{self.vocab_size - 1}, got {ids.min()}..{ids.max()}")
        is_special = ids < NUM_SPECIAL
        is_acoustic = ids >= self._acoustic_start
        offset = ids - self._acoustic_start
        size = max(self.codebook_size, 1)
        stream = xp.where(is_special, SPECIAL_STREAM, xp.where(is_acoustic, ACOUSTIC_STREAM, SEMANTIC_STREAM))
        level = xp.where(is_acoustic, offset // size, 0)
        code = xp.where(is_special, ids, xp.where(is_acoustic, offset % size, ids - NUM_SPECIAL))
        return Decoded(stream.astype(xp.int32), level.astype(xp.int32), code.astype(xp.int32))

    def encode_frames(self, stream: str, codes: Any, first_level: int = 0) -> Any:
        """Flattens frames time-major, y_1^1 y_1^2 .. y_2^1 .. (AudioLM, section III-C).

        Args:
            stream: SEMANTIC or ACOUSTIC.
            codes: int[..., T, L], column l holding level `first_level + l`.
            first_level: level of the first column.

        Returns:
            int32[..., T * L] ids.
        """
        num_levels = codes.shape[-1]
        ids = self.encode(stream, first_level + np.arange(num_levels, dtype=np.int32), codes)
        return ids.reshape(*codes.shape[:-2], codes.shape[-2] * num_levels)

    def decode_frames(self, stream: str, ids: Any, first_level: int, num_levels: int) -> Any:
        """The inverse of `encode_frames`: ids int[..., T * L] of whole frames to codes int32[..., T, L].

        Raises:
            ValueError: a frame is cut, or (NumPy input) an id is not of the level its position asks for.
        """
        if ids.shape[-1] % num_levels:
            raise ValueError(f"{ids.shape[-1]} ids are not whole frames of {num_levels} levels")
        start, size = self._start_and_size(stream)
        frames = ids.reshape(*ids.shape[:-1], ids.shape[-1] // num_levels, num_levels)
        codes = frames - start - (first_level + np.arange(num_levels, dtype=np.int32)) * size
        xp = _namespace(ids)
        if xp is np and codes.size and (codes.min() < 0 or codes.max() >= size):
            raise ValueError(f"ids are not {stream} frames of levels {first_level}..{first_level + num_levels - 1}")
        return codes.astype(xp.int32)

    def split(self, ids: np.ndarray) -> SplitTokens:
        """Takes one finished sequence apart; the only place where EOS and PAD are removed.

        Args:
            ids: int[S] on the host: prefix and target in any order of streams; everything from the first EOS on and
                every PAD is dropped.

        Returns:
            `SplitTokens`; `acoustic` has one column for each level from 0 up to the highest that occurs.

        Raises:
            ValueError: an unknown id, or levels with different numbers of codes (an incomplete frame).
        """
        ids = np.asarray(ids)
        if ids.ndim != 1:
            raise ValueError(f"split takes one sequence int[S], got shape {ids.shape}")
        ends = np.flatnonzero(ids == EOS)
        if ends.size:
            ids = ids[: ends[0]]
        stream, level, code = self.decode(ids[ids != PAD])
        is_acoustic = stream == ACOUSTIC_STREAM
        num_levels = int(level[is_acoustic].max()) + 1 if is_acoustic.any() else 0
        columns = [code[is_acoustic & (level == q)] for q in range(num_levels)]
        if len({column.size for column in columns}) > 1:
            raise ValueError(f"incomplete frames: codes per level {[column.size for column in columns]}")
        acoustic = np.stack(columns, axis=1) if columns else np.zeros((0, 0), np.int32)
        return SplitTokens(code[stream == SEMANTIC_STREAM], acoustic, bool(ends.size))

    def allowed(self, stream: str, position: Any, first_level: int, num_levels: int, allow_eos: Any) -> Any:
        """Which ids may stand at a position of a target of whole frames.

        Exactly one level's range is legal at each position, so that sampled frames are whole by construction; EOS is
        legal only at the first position of a frame.

        Args:
            stream: stream of the target.
            position: int or int[...], position in the target, 0 for its first token; may be traced.
            first_level: first level of the target.
            num_levels: levels of one frame of the target.
            allow_eos: bool or bool[...] that broadcasts with `position`, may be traced.

        Returns:
            bool[..., padded_vocab_size]; PAD and the padding of the vocabulary are never legal.
        """
        start, size = self._start_and_size(stream)
        xp = _namespace(position) if hasattr(position, "__array_namespace__") else _namespace(allow_eos)
        position = xp.asarray(position)
        ids = xp.arange(self.padded_vocab_size)
        low = (start + (first_level + position % num_levels) * size)[..., None]
        eos = xp.asarray(allow_eos)[..., None] & (position % num_levels == 0)[..., None] & (ids == EOS)
        return ((ids >= low) & (ids < low + size)) | eos
