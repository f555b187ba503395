"""Encoding and decoding of recordings of any length in windows of one shape, with the result of a single pass.

The codec is causal: what it says about a frame depends on a bounded stretch of its past and on nothing after it. A
window therefore starts that stretch (the context) before the first frame it is asked for, and what it says about the
context itself is dropped. The first window starts where the recording starts, so it has no context and drops nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from audiolm_jax.codec import soundstream
from audiolm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from audiolm_jax.errors import UserError

RESIDUAL_PAST = (soundstream.RESIDUAL_KERNEL - 1) * sum(soundstream.RESIDUAL_DILATIONS)
EDGE_PAST = soundstream.EDGE_KERNEL - 1
DEFAULT_CHUNK_SECONDS = 5.0


def encoder_context_frames(config: SoundStreamConfig) -> int:
    """Frames before a frame that can change its tokens: the encoder's receptive field on the past side."""
    past = soundstream.LATENT_KERNEL - 1  # In steps of the rate at hand, from the last layer to the first.
    for stride in reversed(config.strides):
        past = (past + 1) * stride + RESIDUAL_PAST
    return -(-(past + EDGE_PAST) // config.hop_samples)


def decoder_context_frames(config: SoundStreamConfig) -> int:
    """Frames before a frame that can change its samples: the decoder's receptive field on the past side."""
    past = EDGE_PAST
    for stride in config.strides:
        past = -(-(past + RESIDUAL_PAST) // stride) + 1
    return past + EDGE_PAST


def encode_chunked(
    codec: SoundStream,
    params: Any,
    samples: np.ndarray,
    chunk_seconds: float = DEFAULT_CHUNK_SECONDS,
    progress: bool = False,
) -> np.ndarray:
    """The tokens of `codec.encode(params, samples)`, in the memory of one chunk whatever the length.

    Args:
        codec, params: the codec and its weights.
        samples: float32[B, T] at the codec's rate, T >= 1; also a memory-mapped array.
        chunk_seconds: length of a window, its context included.
        progress: whether to show a bar.

    Returns:
        int32[B, ceil(T / hop), Q].

    Raises:
        UserError: if a chunk is not longer than the context.
    """
    hop = codec.hop_samples
    num_frames = -(-samples.shape[1] // hop)
    context = encoder_context_frames(codec.config)
    window_frames = _window_frames(codec, context, num_frames, chunk_seconds)

    def encode(start: int) -> np.ndarray:
        return np.asarray(codec.encode(params, _padded(samples, start * hop, window_frames * hop)))

    tokens = np.empty((samples.shape[0], num_frames, codec.num_quantizers), np.int32)
    for first, last, window in _windows(encode, num_frames, window_frames, context, codec, progress):
        tokens[:, first:last] = window
    return tokens


def decode_chunked(
    codec: SoundStream,
    params: Any,
    tokens: np.ndarray,
    chunk_seconds: float = DEFAULT_CHUNK_SECONDS,
    progress: bool = False,
) -> np.ndarray:
    """The samples of `codec.decode(params, tokens)`, in the memory of one chunk whatever the length.

    Args:
        codec, params: the codec and its weights.
        tokens: int32[B, T_a, q], q <= Q, T_a >= 1.
        chunk_seconds: length of a window, its context included.
        progress: whether to show a bar.

    Returns:
        float32[B, T_a * hop].

    Raises:
        UserError: if a chunk is not longer than the context.
    """
    hop = codec.hop_samples
    num_frames = tokens.shape[1]
    context = decoder_context_frames(codec.config)
    window_frames = _window_frames(codec, context, num_frames, chunk_seconds)

    def decode(start: int) -> np.ndarray:
        decoded = np.asarray(codec.decode(params, _padded(tokens, start, window_frames)))
        return decoded.reshape(tokens.shape[0], window_frames, hop)

    samples = np.empty((tokens.shape[0], num_frames, hop), np.float32)
    for first, last, window in _windows(decode, num_frames, window_frames, context, codec, progress):
        samples[:, first:last] = window
    return samples.reshape(tokens.shape[0], -1)


def _window_frames(codec: SoundStream, context: int, num_frames: int, chunk_seconds: float) -> int:
    """Frames of a window: a chunk, or for what is shorter than a chunk a power of two, to compile for few shapes."""
    chunk_frames = int(chunk_seconds * codec.sample_rate_hz / codec.hop_samples)
    if chunk_frames <= context:
        least = (context + 1) * codec.hop_samples / codec.sample_rate_hz
        raise UserError(f"chunk_seconds is {chunk_seconds:g}, less than the codec looks back; set at least {least:.2f}")
    return min(chunk_frames, 1 << (num_frames - 1).bit_length()) if num_frames > 0 else chunk_frames


def _padded(array: np.ndarray, start: int, length: int) -> np.ndarray:
    """array [B, N, ...] from `start` over `length`, zeros after its end: a causal network does not see them."""
    part = np.asarray(array[:, start : start + length])
    missing = length - part.shape[1]
    return np.pad(part, ((0, 0), (0, missing), *((0, 0),) * (part.ndim - 2))) if missing else part


def _windows(
    run: Callable[[int], np.ndarray],
    num_frames: int,
    window_frames: int,
    context: int,
    codec: SoundStream,
    progress: bool,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first frame, end frame, result [B, end - first, ...]) for windows that tile `num_frames` without overlap."""
    seconds_per_frame = codec.hop_samples / codec.sample_rate_hz
    with tqdm(total=round(num_frames * seconds_per_frame, 1), unit="s", disable=not progress) as bar:
        done = 0
        while done < num_frames:
            start = max(done - context, 0)
            end = min(start + window_frames, num_frames)
            yield done, end, run(start)[:, done - start : end - start]
            bar.update(round((end - done) * seconds_per_frame, 1))
            done = end
