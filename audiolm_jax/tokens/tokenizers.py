"""A codec and a semantic tokenizer with their weights, and the tokens that they give of a batch of recordings.

The tokens of a recording depend on the recording alone. The codec is run on arrays of a few fixed shapes: a recording
is padded to the next of a few lengths, and a batch that is not full is filled with rows of zeros, so neither the
number of companions nor their lengths choose the program; it is told where each recording ends. The semantic tokenizer
runs every window by itself.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.codec.contract import Codec
from audiolm_jax.tokens.alignment import num_frames
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.stages import TokenizerRates

# Audio is padded to a few lengths, each this much longer than the one before, so that few programs are compiled.
_LENGTH_RATIO = 1.25
_SHORTEST_SECONDS = 1.0
# A longer recording is encoded by itself, in windows of this length, which bounds the memory.
WHOLE_SECONDS = 40.0


@dataclasses.dataclass(frozen=True)
class Tokenizers:
    """A codec and a semantic tokenizer with their weights.

    Tokens of a frame must not depend on zeros that follow the audio, nor on other rows: both are told `num_samples`.
    """

    codec: Codec
    codec_params: Any
    semantic: Any
    semantic_params: Any

    def on_device(self, device: jax.Device | None = None) -> "Tokenizers":
        """The same with the weights on a device, so that they are not sent there for every recording."""
        params = jax.device_put((self.codec_params, self.semantic_params), device)
        return Tokenizers(self.codec, params[0], self.semantic, params[1])

    def sizes(self) -> TokenizerSizes:
        """Rates, vocabularies and fingerprints."""
        codec, semantic = self.codec, self.semantic
        rates = TokenizerRates(
            semantic.sample_rate_hz, semantic.hop_samples, codec.sample_rate_hz, codec.hop_samples
        )
        return TokenizerSizes(
            rates=rates,
            semantic_vocab=semantic.vocab_size,
            codebook_size=codec.codebook_size,
            num_quantizers=codec.num_quantizers,
            semantic_fingerprint=semantic.fingerprint(self.semantic_params),
            codec_fingerprint=codec.fingerprint(self.codec_params),
        )


def padded_samples(num_samples: int, sample_rate_hz: int, hop_samples: int) -> int:
    """The next of a few lengths up to WHOLE_SECONDS, in samples and whole hops, that holds `num_samples`.

    It depends on the recording alone, so that it can stand for the batch that the recording belongs to. Longer
    recordings all get the same number, one hop above the longest of these lengths.
    """
    seconds = max(num_samples / sample_rate_hz, _SHORTEST_SECONDS)
    whole = _whole_samples(sample_rate_hz, hop_samples)
    if num_samples > whole:
        return whole + hop_samples
    steps = math.ceil(math.log(seconds / _SHORTEST_SECONDS) / math.log(_LENGTH_RATIO) - 1e-9)
    samples = max(num_samples, math.ceil(_SHORTEST_SECONDS * _LENGTH_RATIO**steps * sample_rate_hz))
    return min(math.ceil(samples / hop_samples) * hop_samples, whole)


def _whole_samples(sample_rate_hz: int, hop_samples: int) -> int:
    """Samples of the longest recording that is encoded as a whole."""
    return math.ceil(WHOLE_SECONDS * sample_rate_hz / hop_samples) * hop_samples


def batch_tokens(
    tokenizers: Tokenizers,
    codec_rows: Sequence[np.ndarray],
    semantic_rows: Sequence[np.ndarray],
    batch_size: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Acoustic tokens int32[T_a, Q] and semantic tokens int32[T_s] of each recording of a batch.

    Args:
        tokenizers: both, weights on the device that shall do it.
        codec_rows, semantic_rows: the recordings, at most `batch_size`, as float32[T] at either rate; all of one
            `padded_samples` of the codec's.
        batch_size: rows of the codec's program.
    """
    codec, semantic = tokenizers.codec, tokenizers.semantic
    length = padded_samples(max(map(len, codec_rows)), codec.sample_rate_hz, codec.hop_samples)
    if length > _whole_samples(codec.sample_rate_hz, codec.hop_samples):
        encoded = [
            encode_chunked(codec, tokenizers.codec_params, row[None], chunk_seconds=WHOLE_SECONDS)[0]
            for row in codec_rows
        ]
    else:
        # The device goes on with the codec while the semantic tokenizer's windows are cut and queued behind it.
        ends = np.full(batch_size, length, np.int32)
        ends[: len(codec_rows)] = [len(row) for row in codec_rows]
        encoded = codec.encode(tokenizers.codec_params, _rows(codec_rows, batch_size, length), ends)
    samples = _rows(semantic_rows, len(semantic_rows), max(map(len, semantic_rows)))
    lengths = np.asarray([len(row) for row in semantic_rows], np.int32)
    semantic_tokens = np.asarray(semantic.tokenize(tokenizers.semantic_params, samples, num_samples=lengths))
    acoustic_tokens = encoded if isinstance(encoded, list) else np.asarray(encoded)
    return [
        (
            acoustic_tokens[row][: num_frames(len(codec_rows[row]), codec.hop_samples)],
            semantic_tokens[row][: num_frames(len(semantic_rows[row]), semantic.hop_samples)],
        )
        for row in range(len(codec_rows))
    ]


def _rows(rows: Sequence[np.ndarray], count: int, length: int) -> np.ndarray:
    """float32[count, length] with zeros behind the rows and below them."""
    array = np.zeros((count, length), np.float32)
    for row, values in enumerate(rows):
        array[row, : len(values)] = values
    return array
