"""A codec's tokens in as many bits as they need, of which any part can be read without unpacking the rest.

Ten bits instead of sixteen for 1024 codes: smaller than what a compressor makes of sixteen, for tokens are close to
noise, and a crop of a long recording costs no more than one of a short recording.
"""

import dataclasses

import numpy as np

# With up to 7 bits of the token before it, a token then lies within four bytes.
_MAX_BITS = 25
_WINDOW_BYTES = 4
# Far more than any codec has. Without frames there are no bytes that a wrong number would not go with.
_MAX_LEVELS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class PackedTokens:
    """Tokens int32[T, Q]. `tokens[frames, levels]` unpacks a part by two slices, `np.asarray(tokens)` all of them.

    Attributes:
        rows: uint8[T, ceil(Q * bits / 8)]; every frame begins with a byte, its first level in the highest bits.
        num_levels: Q.
        bits: of a token.
    """

    rows: np.ndarray
    num_levels: int
    bits: int

    @classmethod
    def of(cls, tokens: np.ndarray) -> "PackedTokens":
        """Packs tokens int[T, Q] with the bits that the highest needs; ValueError for one below 0 or above 2^25 - 1."""
        tokens = np.asarray(tokens)
        lowest, highest = (int(tokens.min()), int(tokens.max())) if tokens.size else (0, 0)
        if lowest < 0 or highest >= 1 << _MAX_BITS:
            raise ValueError(f"tokens must be 0 to {(1 << _MAX_BITS) - 1}, got {lowest} to {highest}")
        bits = max(highest.bit_length(), 1)
        places = np.arange(bits)[::-1]
        ones = (tokens[..., None] >> places & 1).astype(np.uint8)
        rows = np.packbits(ones.reshape(len(tokens), tokens.shape[1] * bits), axis=1)
        return cls(rows, tokens.shape[1], bits)

    @classmethod
    def from_bytes(cls, data: bytes, shape: tuple[int, int], bits: int) -> "PackedTokens":
        """The tokens of shape [T, Q] whose `rows` are these bytes; ValueError if their number is not the right one."""
        frames, levels = shape
        if not 1 <= bits <= _MAX_BITS or not 0 <= levels <= _MAX_LEVELS:
            raise ValueError(f"tokens of {bits} bits in {levels} levels")
        return cls(np.frombuffer(data, np.uint8).reshape(frames, -(-levels * bits // 8)), levels, bits)

    @property
    def shape(self) -> tuple[int, int]:
        """(T, Q)."""
        return len(self.rows), self.num_levels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        frames, levels = part
        first_bits = np.arange(self.num_levels, dtype=np.int64)[levels] * self.bits
        rows = self.rows[frames]
        if not rows.size or not first_bits.size:
            return np.zeros((len(rows), len(first_bits)), np.int32)
        # Behind the last byte of a row comes nothing that counts.
        places = np.minimum(first_bits[:, None] // 8 + np.arange(_WINDOW_BYTES), rows.shape[1] - 1)
        windows = np.take(rows, places, axis=1).view(">u4")[..., 0].astype(np.uint32)
        behind = (8 * _WINDOW_BYTES - self.bits - first_bits % 8).astype(np.uint32)
        return (windows >> behind & np.uint32((1 << self.bits) - 1)).astype(np.int32)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("packed tokens have no array to share")
        return self[:, :].astype(np.int32 if dtype is None else dtype, copy=False)
