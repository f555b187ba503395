"""A published model in a program's hands: arrays in, arrays out, weights and licence beside it."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from audiolm_jax.codec.chunked import DEFAULT_CHUNK_SECONDS, decode_chunked, encode_chunked
from audiolm_jax.codec.contract import Codec
from audiolm_jax.errors import UserError
from audiolm_jax.pretrained.files.imported_model import ImportedModel, is_imported, read_huggingface, read_imported
from audiolm_jax.pretrained.kind import CODEC
from audiolm_jax.semantic.network.encoder import Encoder
from audiolm_jax.semantic.tokenizer import SemanticTokenizer, SemanticTokenizerConfig

# Of windows that attend to themselves only, when an encoder tokenizes; see `SemanticTokenizer`.
WINDOW_SECONDS, MARGIN_SECONDS = 30, 2


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedCodec:
    """A codec with its weights.

    Attributes:
        codec: its functions, see `codec.contract.Codec`.
        params: its weights.
        licence, origin: of the weights.
    """

    codec: Codec
    params: Any
    licence: str
    origin: str

    @property
    def config(self) -> Any:
        """What the codec depends on besides its weights."""
        return self.codec.config

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveform."""
        return self.codec.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        """Samples of a frame."""
        return self.codec.hop_samples

    @property
    def num_quantizers(self) -> int:
        """Levels Q that `encode` gives."""
        return self.codec.num_quantizers

    @property
    def codebook_size(self) -> int:
        """Entries of each level."""
        return self.codec.codebook_size

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of configuration and weights."""
        return self.codec.fingerprint(self.params)

    def encode(self, samples: Any, lengths: Any = None) -> jax.Array:
        """Tokens int32[B, ceil(T / hop), Q] of samples float32[B, T]; lengths int[B] of each row count (None: all).

        Raises:
            UserError: the arrays have other shapes.
        """
        samples, lengths = _rows(samples, lengths)
        return self.codec.encode(self.params, samples, lengths)

    def decode(self, tokens: Any, num_frames: Any = None) -> jax.Array:
        """Samples float32[B, F * hop] of tokens int[B, F, q], q <= Q; num_frames int[B] of each row count (None: all).

        Raises:
            UserError: the tokens have another shape, more levels than the codec, or codes that it does not have.
        """
        tokens = self._checked(tokens)
        if num_frames is not None:
            num_frames = _lengths(num_frames, tokens.shape[:2], "num_frames")
        return self.codec.decode(self.params, tokens, num_frames)

    def encode_chunked(self, samples: Any, chunk_seconds: float = DEFAULT_CHUNK_SECONDS) -> np.ndarray:
        """What `encode` gives, in the memory of one window whatever the length; see `codec.chunked`."""
        samples, _ = _rows(samples, None)
        return encode_chunked(self.codec, self.params, samples, chunk_seconds)

    def decode_chunked(self, tokens: Any, chunk_seconds: float = DEFAULT_CHUNK_SECONDS) -> np.ndarray:
        """What `decode` gives, in the memory of one window whatever the length; see `codec.chunked`."""
        return decode_chunked(self.codec, self.params, self._checked(tokens), chunk_seconds)

    def _checked(self, tokens: Any) -> np.ndarray:
        tokens = np.asarray(tokens)
        if tokens.ndim != 3 or not np.issubdtype(tokens.dtype, np.integer) or 0 in tokens.shape:
            raise UserError(f"decode takes tokens int32[B, F, q], but got {tokens.dtype}{list(tokens.shape)}")
        if tokens.shape[2] > self.num_quantizers:
            raise UserError(f"the tokens have {tokens.shape[2]} levels, but this codec has {self.num_quantizers}")
        if tokens.min() < 0 or tokens.max() >= self.codebook_size:
            raise UserError(f"codes must lie in 0..{self.codebook_size - 1}, got {tokens.min()}..{tokens.max()}")
        return tokens.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """An encoder with its weights, and centroids if it was imported with some.

    Attributes:
        encoder: its functions, see `semantic.network.encoder.Encoder`.
        params: its weights.
        licence, origin: of the weights.
        layer, centroids: int and float32[K, D] of its k-means, None without.
    """

    encoder: Encoder
    params: Any
    licence: str
    origin: str
    layer: int | None = None
    centroids: np.ndarray | None = None

    @property
    def config(self) -> Any:
        """What the encoder depends on besides its weights."""
        return self.encoder

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveform."""
        return self.encoder.sample_rate_hz

    @property
    def hop_samples(self) -> int:
        """Samples between two frames."""
        return self.encoder.hop_samples

    @property
    def num_layers(self) -> int:
        """Blocks; layers are numbered 0 to this."""
        return self.encoder.num_layers

    def num_frames(self, num_samples: int) -> int:
        """Frames that `features` gives of so many samples."""
        return int(self.encoder.num_frames(num_samples))

    def features(self, samples: Any, lengths: Any = None, layer: int | None = None) -> jax.Array:
        """Hidden states of a layer as the reference gives them.

        Args:
            samples: float[B, T] at `sample_rate_hz`.
            lengths: int[B] samples of each row that count; None for all.
            layer: as transformers numbers `hidden_states`: 0 is what the first block is given, `num_layers` the last.
                None for the last.

        Returns:
            float32[B, T_s, D]; frames behind the end of a row are zeros.

        Raises:
            UserError: the arrays have other shapes, or there is no such layer.
        """
        samples, lengths = _rows(samples, lengths)
        layer = self.num_layers if layer is None else layer
        if not 0 <= layer <= self.num_layers:
            raise UserError(f"layer {layer} is not among the layers 0 to {self.num_layers} of this encoder")
        return self.encoder.features(self.params, samples, lengths, layer)

    @functools.cached_property
    def _tokenizer(self) -> SemanticTokenizer:
        if self.centroids is None:
            raise UserError("this encoder has no centroids; import it with --kmeans FILE --layer N, or train a k-means")
        return SemanticTokenizer(semantic_config(self.encoder, self.layer, len(self.centroids)))

    def tokenize(self, samples: Any, lengths: Any = None) -> np.ndarray:
        """Semantic tokens int32[B, ceil(T / hop)] of samples float[B, T]; see `SemanticTokenizer.tokenize`.

        Raises:
            UserError: it was imported without centroids; or as `features`.
        """
        samples, lengths = _rows(samples, lengths)
        return self._tokenizer.tokenize(semantic_params(self.params, self.centroids), samples, lengths)


def load(directory: str | Path) -> LoadedCodec | LoadedEncoder:
    """A model that `audiolm import` wrote, or one of a Hugging Face folder.

    Args:
        directory: of either.

    Returns:
        an object with the functions and the weights.

    Raises:
        UserError: the folder holds neither, or is damaged; see `read_imported` and `read_huggingface`.
    """
    return loaded(read_imported(directory) if is_imported(directory) else read_huggingface(directory))


def loaded(model: ImportedModel) -> LoadedCodec | LoadedEncoder:
    """The same of a model in memory; its weights go to the device."""
    made, params = model.kind.make(model.config), jax.device_put(model.params)
    if model.kind.part == CODEC:
        return LoadedCodec(made, params, model.licence, model.origin)
    layer, centroids = (None, None) if model.kmeans is None else (model.kmeans.layer, model.kmeans.centroids)
    return LoadedEncoder(made, params, model.licence, model.origin, layer, centroids)


def semantic_config(encoder: Encoder, layer: int, num_clusters: int) -> SemanticTokenizerConfig:
    """The semantic tokenizer that published centroids make of an encoder: windows of 30 s with 2 s of context."""
    frames_hz = encoder.sample_rate_hz // encoder.hop_samples
    return SemanticTokenizerConfig(encoder, layer, num_clusters, WINDOW_SECONDS * frames_hz, MARGIN_SECONDS * frames_hz)


def semantic_params(params: Any, centroids: np.ndarray) -> dict[str, Any]:
    """Its parameters. Published centroids are of features as they come, so nothing is standardised."""
    dim = centroids.shape[1]
    return {
        "encoder": params,
        "mean": np.zeros(dim, np.float32),
        "std": np.ones(dim, np.float32),
        "centroids": np.asarray(centroids, np.float32),
    }


def _rows(samples: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray | None]:
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 2 or 0 in samples.shape:
        raise UserError(f"samples must be float32[B, T], but are {list(samples.shape)}")
    return samples, None if lengths is None else _lengths(lengths, samples.shape, "lengths")


def _lengths(lengths: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    lengths = np.asarray(lengths)
    rows, longest = shape[:2]
    if lengths.shape != (rows,) or lengths.min() < 1 or lengths.max() > longest:
        raise UserError(f"{name} must be {rows} numbers between 1 and {longest}, but are {lengths.tolist()}")
    return lengths.astype(np.int32)
