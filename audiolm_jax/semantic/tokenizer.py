"""The semantic tokenizer: a layer of an encoder, standardised, to the nearest of K centroids."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax import fingerprint
from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, Whole
from audiolm_jax.semantic import kmeans
from audiolm_jax.semantic.network.encoder import Encoder


@dataclasses.dataclass(frozen=True)
class SemanticTokenizerConfig:
    """What a waveform's tokens depend on besides the weights; all of it is part of the fingerprint.

    Attributes:
        encoder: a w2v-BERT, or a published encoder.
        layer: its block whose output is clustered, counted from 1 (in a w2v-BERT through both modules); 0 is what the
            first block is given. AudioLM: layer 7 of the masked-prediction module of XL, which is 19.
        num_clusters: K, the vocabulary.
        window_frames: frames that attend to one another.
        margin_frames: frames at either end of a window that only lend context.
    """

    encoder: Encoder
    layer: Whole
    num_clusters: Count = 1024
    window_frames: Count = 750
    margin_frames: Whole = 50

    def __post_init__(self):
        if not 0 <= self.layer <= self.encoder.num_layers:
            raise UserError(f"layer {self.layer} is not among the layers 0 to {self.encoder.num_layers} of the encoder")
        if not 0 <= 2 * self.margin_frames < self.window_frames:
            raise UserError(f"two margins of {self.margin_frames} frames leave nothing of {self.window_frames} frames")


@dataclasses.dataclass(frozen=True)
class SemanticTokenizer:
    """Waveform to semantic tokens, 25 a second with a w2v-BERT (AudioLM, section III-B).

    Attention sees everything it is given, so tokens of a long file would change with the way it is cut. Therefore the
    cutting is part of the definition: with W = `window_frames`, M = `margin_frames` and H = W - 2 M, window k covers
    the frames [k H - M, k H + H + M), frames outside the file count as padding, and the tokens kept of it are those of
    [k H, k H + H). Every window is computed by the same program on arrays of the same shape, alone. So a file has the
    same tokens in whatever batch and behind whatever padding, a file of three hours needs the memory of one window
    beside its samples, and no length of file compiles anew.

    params = {"encoder": parameters of the encoder, "mean": float32[D], "std": float32[D], "centroids": float32[K, D]}.
    """

    config: SemanticTokenizerConfig

    @property
    def sample_rate_hz(self) -> int:
        return self.config.encoder.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        return self.config.encoder.hop_samples

    @property
    def vocab_size(self) -> int:
        return self.config.num_clusters

    def fingerprint(self, params: Any) -> str:
        """16 hexadecimal digits of configuration and weights."""
        return fingerprint.fingerprint(self.config, params)

    def tokenize(self, params: Any, samples, num_samples=None) -> np.ndarray:
        """Tokens of a batch of waveforms.

        Runs on the host and calls one compiled program per window; do not call it under jit.

        Args:
            params: see the class.
            samples: float32[B, T] at `sample_rate_hz`.
            num_samples: int[B] samples that belong to each row; None for all T.

        Returns:
            int32[B, ceil(T / hop)]. Row b has ceil(num_samples[b] / hop) tokens; behind them stand zeros.

        Raises:
            UserError: the samples are not [B, T], or a row claims more samples than there are.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 2:
            raise UserError(f"tokenize needs samples of shape [B, T], but got {samples.shape}")
        rows, total = samples.shape
        counts = np.full(rows, total) if num_samples is None else np.asarray(num_samples)
        if counts.shape != (rows,) or np.any(counts < 0) or np.any(counts > total):
            raise UserError(f"num_samples must be {rows} numbers between 0 and {total}, but is {counts.tolist()}")
        tokens = np.zeros((rows, -(-total // self.hop_samples)), np.int32)
        device_params = jax.device_put(params)  # once, and not for every window
        for row, count in enumerate(counts):
            for first, kept in self._windows(_window_tokens, device_params, samples[row, : int(count)]):
                tokens[row, first : first + len(kept)] = kept
        return tokens

    def layer_features(self, params: Any, samples: np.ndarray) -> np.ndarray:
        """What the layer says of one waveform before it is standardised and clustered, by the windows of `tokenize`.

        Args:
            params: see the class; "mean", "std" and "centroids" are not used.
            samples: float32[T] at `sample_rate_hz`.

        Returns:
            float32[ceil(T / hop), D].
        """
        device_params = jax.device_put({"encoder": params["encoder"]})
        windows = self._windows(_window_features, device_params, np.asarray(samples, np.float32))
        kept = [np.zeros((0, self.config.encoder.dim), np.float32), *(frames for _, frames in windows)]
        return np.concatenate(kept)

    def _windows(self, program, params, samples):
        """Yields (first frame, what `program` gives of its frames) of every window of one waveform float32[T]."""
        margin = self.config.margin_frames
        hop = self.config.window_frames - 2 * margin
        window_samples = self.config.window_frames * self.hop_samples
        frames = -(-len(samples) // self.hop_samples)
        for first in range(0, frames, hop):
            start = (first - margin) * self.hop_samples
            window = np.zeros(window_samples, np.float32)
            inside = samples[max(start, 0) : start + window_samples]
            offset = max(-start, 0)
            window[offset : offset + len(inside)] = inside
            lead = np.int32(max(margin - first, 0))
            made = program(self.config, params, window[None], np.int32([offset + len(inside)]), lead)
            yield first, np.asarray(made)[0, margin : margin + min(hop, frames - first)]


@functools.partial(jax.jit, static_argnums=0)
def _window_features(config: SemanticTokenizerConfig, params, samples, num_samples, first_frame):
    """The layer's output float32[1, W, D] on one window float32[1, W * hop]."""
    frames = config.encoder.frames(params["encoder"], samples, num_samples, config.layer, first_frame)
    return frames.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _window_tokens(config: SemanticTokenizerConfig, params, samples, num_samples, first_frame):
    """Tokens int32[1, W] of one window float32[1, W * hop]."""
    frames = _window_features(config, params, samples, num_samples, first_frame)
    standardised = (frames - params["mean"]) / params["std"]
    ids = kmeans.assign(standardised.reshape(-1, standardised.shape[-1]), params["centroids"])
    return ids.reshape(standardised.shape[:2])
