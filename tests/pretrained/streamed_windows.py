"""A streamed codec, window by window: what the tests of every such codec do with it."""

import numpy as np


def encoded(codec, params, samples, num_samples, window_frames):
    """Tokens int32[B, T_a, Q] of samples float32[B, T], of which each row has num_samples int[B]."""
    window = window_frames * codec.hop_samples
    samples = np.pad(samples, ((0, 0), (0, -samples.shape[1] % window)))
    state, parts = None, []
    for begin in range(0, samples.shape[1], window):
        counted = np.clip(num_samples - begin, 0, window).astype(np.int32)
        part, state = codec.encode_next(params, state, samples[:, begin : begin + window], counted)
        parts.append(np.asarray(part))
    return np.concatenate(parts, axis=1)


def decoded(codec, params, tokens, window_frames):
    """Samples float32[B, T] of tokens int32[B, T_a, Q]."""
    tokens = np.pad(tokens, ((0, 0), (0, -tokens.shape[1] % window_frames), (0, 0)))
    state, parts = None, []
    for begin in range(0, tokens.shape[1], window_frames):
        part, state = codec.decode_next(params, state, tokens[:, begin : begin + window_frames])
        parts.append(np.asarray(part))
    return np.concatenate(parts, axis=1)


def programs_after_each_of_two_windows(codec, params, wave, window_frames):
    """How many programs there are for encoding after the first window of float32[T] and after a second one."""
    window = window_frames * codec.hop_samples
    samples, num_samples = wave[None, :window].repeat(3, axis=0), np.full(3, window, np.int32)
    state, counts = None, []
    for _ in range(2):
        _, state = codec.encode_next(params, state, samples, num_samples)
        counts.append(type(codec)._encode_window._cache_size())
    return counts
