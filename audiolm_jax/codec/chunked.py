"""Encoding and decoding of recordings of any length in windows of one shape, with the result of a single pass.

What a codec says of a frame depends on a stretch of its past, of some codecs also on a stretch of its future. Where the
stretches are bounded, a window holds them on either side of the frames that it is asked for, and what it says of those
is dropped. At the ends of the recording there is nothing to drop. Where a frame depends on all of the past (a recurrent
network, attention), the codec itself hands on from window to window what it needs (`Codec.encode_next`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from audiolm_jax.codec.contract import Codec, Context
from audiolm_jax.errors import UserError

DEFAULT_CHUNK_SECONDS = 5.0
# Longer than what any layer of a codec that streams is padded with.
_LEAST_STREAMED_FRAMES = 16


def encode_chunked(
    codec: Codec,
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
    hop, total = codec.hop_samples, samples.shape[1]
    num_frames = -(-total // hop)
    context = codec.encoder_context
    window_frames = _window_frames(codec, context, num_frames, chunk_seconds)
    # Only the window at the end is not full. A codec that looks ahead has to be told where the recording ends.
    state = None

    def encode(start: int) -> np.ndarray:
        nonlocal state
        window = _padded(samples, start * hop, window_frames * hop)
        num_samples = np.full(len(samples), min(total - start * hop, window_frames * hop), np.int32)
        if context is not None:
            return np.asarray(codec.encode(params, window, num_samples))
        encoded, state = codec.encode_next(params, state, window, num_samples)
        return np.asarray(encoded)

    tokens = np.empty((samples.shape[0], num_frames, codec.num_quantizers), np.int32)
    for first, last, window in _windows(encode, num_frames, window_frames, context, codec, progress):
        tokens[:, first:last] = window
    return tokens


def decode_chunked(
    codec: Codec,
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
    context = codec.decoder_context
    window_frames = _window_frames(codec, context, num_frames, chunk_seconds)
    state = None

    def decode(start: int) -> np.ndarray:
        nonlocal state
        window = _padded(tokens, start, window_frames)
        if context is not None or num_frames <= window_frames:  # the one window is told where the recording ends
            frames = np.full(len(tokens), min(num_frames - start, window_frames), np.int32)
            decoded = codec.decode(params, window, frames)
        else:
            decoded, state = codec.decode_next(params, state, window)
        return np.asarray(decoded).reshape(tokens.shape[0], window_frames, hop)

    samples = np.empty((tokens.shape[0], num_frames, hop), np.float32)
    for first, last, window in _windows(decode, num_frames, window_frames, context, codec, progress):
        samples[:, first:last] = window
    return samples.reshape(tokens.shape[0], -1)


def _window_frames(codec: Codec, context: Context | None, num_frames: int, chunk_seconds: float) -> int:
    """Frames of a window: a chunk, or for what is shorter than a chunk a power of two, to compile for few shapes."""
    chunk_frames = int(chunk_seconds * codec.sample_rate_hz / codec.hop_samples)
    dropped = 0 if context is None else context.past_frames + context.future_frames
    if context is None:
        num_frames = max(num_frames, _LEAST_STREAMED_FRAMES)
    if chunk_frames <= dropped:
        least = (dropped + 1) * codec.hop_samples / codec.sample_rate_hz
        raise UserError(f"chunk_seconds is {chunk_seconds:g}, less than the codec sees; set at least {least:.2f}")
    return min(chunk_frames, 1 << (num_frames - 1).bit_length()) if num_frames > 0 else chunk_frames


def _padded(array: np.ndarray, start: int, length: int) -> np.ndarray:
    """array [B, N, ...] from `start` over `length`, zeros after its end."""
    part = np.asarray(array[:, start : start + length])
    missing = length - part.shape[1]
    return np.pad(part, ((0, 0), (0, missing), *((0, 0),) * (part.ndim - 2))) if missing else part


def _windows(
    run: Callable[[int], np.ndarray],
    num_frames: int,
    window_frames: int,
    context: Context | None,
    codec: Codec,
    progress: bool,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first frame, end frame, result [B, end - first, ...]) for windows that tile `num_frames` without overlap."""
    past, future = (0, 0) if context is None else (context.past_frames, context.future_frames)
    seconds_per_frame = codec.hop_samples / codec.sample_rate_hz
    with tqdm(total=round(num_frames * seconds_per_frame, 1), unit="s", disable=not progress) as bar:
        done = 0
        while done < num_frames:
            start = max(done - past, 0)
            is_last = start + window_frames >= num_frames
            end = num_frames if is_last else start + window_frames - future
            yield done, end, run(start)[:, done - start : end - start]
            bar.update(round((end - done) * seconds_per_frame, 1))
            done = end
