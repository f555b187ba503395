"""Features of recordings by every layer of a semantic encoder in training, and MFCC to compare them with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.bundle.tokenizer_dirs import trained_in
from audiolm_jax.errors import UserError
from audiolm_jax.fingerprint import fingerprint
from audiolm_jax.pretrained.files.imported_model import is_imported, read_imported
from audiolm_jax.pretrained.kind import ENCODER
from audiolm_jax.semantic.cluster_learner import ClusterPredictionLearner
from audiolm_jax.semantic.learner import W2vBertLearner
from audiolm_jax.semantic.mfcc import mfcc, pooled, row_standardised
from audiolm_jax.semantic.network.encoder import Encoder
from audiolm_jax.semantic.network.front_end import HOP_SAMPLES, MEL_HOP_SAMPLES, SAMPLE_RATE_HZ, log_mel_frames
from audiolm_jax.semantic.tokenizer import SemanticTokenizer, SemanticTokenizerConfig

_MFCC_SAMPLES = 128_000  # recordings are padded to multiples of it, so that a few lengths are compiled


@dataclasses.dataclass(frozen=True, eq=False)
class Representation:
    """Features of a waveform.

    Attributes:
        name: of its figures: "mfcc", "mfcc_40ms", "layer_04".
        title: for people.
        layer: of the encoder; None for what is none of its layers.
        hop_samples: from one frame to the next, at `rate_hz`.
        compute: samples float32[T] -> float32[frames, D].
        standardise: whether its dimensions are standardised before anything is measured.
        clustered: whether k-means is measured on it.
        settings: what its frames depend on besides the encoder, plain JSON values.
    """

    name: str
    title: str
    layer: int | None
    rate_hz: int
    hop_samples: int
    compute: Callable[[np.ndarray], np.ndarray]
    standardise: bool = True
    clustered: bool = True
    settings: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """An encoder with its weights.

    Attributes:
        config: the encoder.
        params: its parameters.
        name: what it is, for people.
        steps: of its training; None for a published one.
        objective: name of its learner; that of its kind for a published one.
    """

    config: Encoder
    params: Any
    name: str
    steps: int | None
    objective: str

    @classmethod
    def of(cls, folder: str | Path) -> "TrainedEncoder":
        """The newest checkpoint of a w2v-BERT's or a cluster prediction's work directory, or an imported encoder.

        Raises:
            UserError: the folder holds neither.
        """
        if is_imported(folder):
            model = read_imported(folder, ENCODER)
            return cls(model.config, model.params, str(folder), None, model.kind.name)
        trained, arrays, meta = trained_in(folder, (W2vBertLearner, ClusterPredictionLearner), "semantic encoder")
        config = trained.learner.config
        params = config.used_params(arrays["params"], config.num_layers)
        return cls(config, params, str(folder), meta["step"], trained.learner.name)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of configuration and weights."""
        return fingerprint(self.config, self.params)

    def representations(
        self, layers: tuple[int, ...], window_frames: int, margin_frames: int
    ) -> tuple[Representation, ...]:
        """MFCC at 10 ms as they are, MFCC as clusters are made of in training, and layers of the encoder.

        Args:
            layers: which; 0 is what the first block is given.
            window_frames, margin_frames: see `SemanticTokenizerConfig`.

        Raises:
            UserError: there is no such layer.
        """
        params = jax.device_put({"encoder": self.params})

        def of_layer(layer: int) -> Representation:
            settings = SemanticTokenizerConfig(self.config, layer, 1, window_frames, margin_frames)

            def compute(samples: np.ndarray) -> np.ndarray:
                return SemanticTokenizer(settings).layer_features(params, samples)

            rate_hz, hop_samples = self.config.sample_rate_hz, self.config.hop_samples
            return Representation(
                f"layer_{layer:02d}", f"layer {layer}", layer, rate_hz, hop_samples, compute,
                settings={"window_frames": window_frames, "margin_frames": margin_frames},
            )  # fmt: skip

        own = [of_layer(layer) for layer in layers]
        return (
            Representation("mfcc", "MFCC", None, SAMPLE_RATE_HZ, MEL_HOP_SAMPLES, _mfcc, False, False),
            Representation("mfcc_40ms", "MFCC, 40 ms", None, SAMPLE_RATE_HZ, HOP_SAMPLES, _mfcc_40ms),
            *own,
        )


def parse_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """Layers from "all" or numbers with commas between them.

    Raises:
        UserError: one is no layer of this encoder.
    """
    if text == "all":
        return tuple(range(num_layers + 1))
    layers = [part.strip() for part in text.split(",")]
    for part in layers:
        if not part.isdecimal() or int(part) > num_layers:
            raise UserError(f"--layers {text!r}: {part!r} is not among the layers 0 to {num_layers} of this encoder")
    return tuple(sorted({int(part) for part in layers}))


def _mfcc(samples: np.ndarray) -> np.ndarray:
    return _padded_mfcc(samples)[0][: -(-len(samples) // MEL_HOP_SAMPLES)]


def _mfcc_40ms(samples: np.ndarray) -> np.ndarray:
    return _padded_mfcc(samples)[1][: -(-len(samples) // HOP_SAMPLES)]


def _padded_mfcc(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(np.asarray(samples, np.float32), (0, -len(samples) % _MFCC_SAMPLES))
    return tuple(np.asarray(frames)[0] for frames in _both_mfcc(padded[None], np.int32([len(samples)])))


@jax.jit
def _both_mfcc(samples: jax.Array, num_samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32[1, F, 39] at 10 ms as they are, and at 40 ms, standardised over the recording."""
    frames = mfcc(log_mel_frames(samples))
    valid = jnp.arange(samples.shape[1] // HOP_SAMPLES) < -(-num_samples[:, None] // HOP_SAMPLES)
    return frames, row_standardised(pooled(frames, HOP_SAMPLES // MEL_HOP_SAMPLES), valid)
