"""A trained classifier of clips on whole recordings: sliding windows of one second every 250 ms, put together.

The paper's windows and hop; how it puts them together is not stated. Here a recording's class is that of the largest
mean log-probability over its windows, and its embedding is the mean of their pooled activations. A recording shorter
than a window is repeated until it fills one.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.audio import Waveform, read_audio, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.classifier.feed import windows
from audiolm_jax.classifier.network import ClipClassifierConfig, clip_outputs
from audiolm_jax.errors import UserError
from audiolm_jax.training.saved.checkpoints import load_params

HOP_SECONDS = 0.25
AGGREGATION = "mean of the windows' log-probabilities"
# Windows that go through the network at once; always so many, so that a figure does not depend on a batch.
_WINDOWS_AT_ONCE = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Opinion:
    """What a classifier says about one recording.

    Attributes:
        log_probabilities: float64[classes], normalised.
        embedding: float64[D].
        num_windows: how many windows both are means over.
        resampled: whether the recording had another rate than the classifier.
    """

    log_probabilities: np.ndarray
    embedding: np.ndarray
    num_windows: int
    resampled: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A network with its weights.

    Attributes:
        config: shape and class names.
        variables: {"params": ..., "batch_stats": ...}.
        steps: updates of its training.
        heldout_keys: recordings of its data folder that it was not trained on; empty where that is not recorded.
        name: folder or bundle it comes from.
    """

    config: ClipClassifierConfig
    variables: Any
    steps: int = 0
    heldout_keys: frozenset[str] = frozenset()
    name: str = ""

    @classmethod
    def load(cls, workdir: str | Path) -> "TrainedClassifier":
        """The newest checkpoint of `audiolm train speaker_classifier` or `audiolm train detector`.

        Raises:
            UserError: the directory holds no checkpoint, or that of another kind of training.
        """
        arrays, meta = load_params(workdir)
        if "classifier" not in meta:
            raise UserError(f"{workdir} holds the training of another kind of network; give that of a classifier")
        return cls(
            config=ClipClassifierConfig.from_plain(meta["classifier"]),
            variables={"params": arrays["params"], **arrays["collections"]},
            steps=meta["step"],
            heldout_keys=frozenset(meta.get("heldout", ())),
            name=str(workdir),
        )

    @classmethod
    def from_bundle(cls, bundle: Bundle, name: str) -> "TrainedClassifier":
        """The classifier "detector" or "speaker" that a bundle carries.

        Raises:
            UserError: it carries none.
        """
        if name not in bundle.classifiers:
            raise UserError(
                f"bundle {bundle.name} carries no {name}; train one and add it: audiolm bundle OUT --system "
                f"{bundle.path or 'DIR'} --{name} WORKDIR"
            )
        found = bundle.classifiers[name]
        return cls(found.config, found.variables, found.steps, name=f"{name} of bundle {bundle.name}")

    def opinion(self, waveform: Waveform) -> Opinion:
        """What the network says about a recording of any rate and length."""
        rate_hz = self.config.sample_rate_hz
        found = windows(
            resample(waveform, rate_hz).samples, self.config.clip_samples, round(HOP_SECONDS * rate_hz)
        )
        log_probabilities, embeddings = [], []
        for start in range(0, len(found), _WINDOWS_AT_ONCE):
            chunk = found[start : start + _WINDOWS_AT_ONCE]
            padded = np.pad(chunk, ((0, _WINDOWS_AT_ONCE - len(chunk)), (0, 0)))
            outputs = clip_outputs(self.config, self.variables, padded)
            for kept, output in zip((log_probabilities, embeddings), outputs, strict=True):
                kept.append(np.asarray(output, np.float64)[: len(chunk)])
        mean = np.mean(np.concatenate(log_probabilities), axis=0)
        return Opinion(
            log_probabilities=mean - np.logaddexp.reduce(mean),
            embedding=np.mean(np.concatenate(embeddings), axis=0),
            num_windows=len(found),
            resampled=waveform.sample_rate_hz != rate_hz,
        )

    def opinion_of_file(self, path: str | Path) -> Opinion:
        """The same of a file.

        Raises:
            UserError: it cannot be read.
        """
        return self.opinion(read_audio(path))

    def settings(self) -> dict[str, Any]:
        """What goes beside figures."""
        return {
            "classifier": self.name,
            "classifier_steps": self.steps,
            "num_classes": self.config.num_classes,
            "window_seconds": self.config.clip_seconds,
            "window_hop_seconds": HOP_SECONDS,
            "aggregation": AGGREGATION,
        }


def resampling_notes(opinions: dict[str, Opinion], sample_rate_hz: int) -> tuple[str, ...]:
    """A note on how many recordings were resampled, if any were."""
    count = sum(opinion.resampled for opinion in opinions.values())
    return (f"{count} of {len(opinions)} recordings were resampled to {sample_rate_hz} Hz",) if count else ()


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of the angle between two vectors; 0 where one has no length."""
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 0 else 0.0
