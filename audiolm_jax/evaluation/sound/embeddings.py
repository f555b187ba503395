"""Embeddings of recordings, a vector for every second, for the Fréchet audio distance; or ready ones from files.

Three embeddings of audio, all of 16 kHz and of windows of one second that do not overlap; an end that fills no window
is left out:

- `log_mel`: 64 mel bands of 25 ms windows every 10 ms, natural logarithms of magnitudes: their mean and their standard
  deviation over the window, 128 numbers. Hears the sound: level, colour, noise. Needs no bundle.
- `semantic`: the output of the bundle's semantic layer, standardised as before its k-means, averaged over the window.
  Hears what is said and in part how; context reaches across windows.
- `speaker`: the pooled activations of the bundle's speaker network. Hears the voice.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from audiolm_jax import spectral
from audiolm_jax.audio import audio_files, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.matrix_file import checked_matrix, matrix_files, read_plain_arrays
from audiolm_jax.evaluation.named_files import by_key
from audiolm_jax.evaluation.recordings import Recording

SAMPLE_RATE_HZ = 16_000
WINDOW_SECONDS = 1.0
_WINDOW_SAMPLES = round(WINDOW_SECONDS * SAMPLE_RATE_HZ)
# Windows that go through a network at once; always so many, so that a vector does not depend on a batch.
_WINDOWS_AT_ONCE = 32
_MELS, _MEL_WINDOW_SAMPLES, _MEL_HOP_SAMPLES, _MEL_FFT_SAMPLES, _MEL_FLOOR = 64, 400, 160, 512, 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of a set of recordings.

    Attributes:
        by_key: float[N, D] of each recording by its key.
        speaker_of: speaker of each key; empty where that is not known.
        settings: what they depend on.
        notes: what a reader must know (resampled, left out).
        source_of: key of the recording that each was made of; its own where none is named.
    """

    by_key: Mapping[str, np.ndarray]
    speaker_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_of: Mapping[str, str] = dataclasses.field(default_factory=dict)


def embed_recordings(recordings: Sequence[Recording], name: str, bundle: Bundle | None = None) -> Embeddings:
    """Embeddings of recordings of any rate, with a progress bar.

    Args:
        recordings: what to embed.
        name: "log_mel", "semantic" or "speaker", see the module.
        bundle: for "semantic" and "speaker".

    Raises:
        UserError: a recording cannot be read, none is as long as a window, or the bundle has no speaker network.
    """
    if not recordings:
        raise UserError("there are no recordings to embed; give a folder with audio")
    embed = _embedder(name, bundle)
    found: dict[str, np.ndarray] = {}
    resampled = 0
    ordered = sorted(recordings, key=lambda recording: recording.key)
    for recording in tqdm(ordered, desc=f"{name} embeddings", disable=not sys.stderr.isatty()):
        waveform = recording.read()
        resampled += waveform.sample_rate_hz != SAMPLE_RATE_HZ
        vectors = embed(resample(waveform, SAMPLE_RATE_HZ).samples)
        if len(vectors):
            found[recording.key] = vectors
    if not found:
        raise UserError(f"none of {len(ordered)} recordings is as long as a window of {WINDOW_SECONDS:g} s")
    notes = []
    if resampled:
        notes.append(f"{resampled} of {len(ordered)} recordings were resampled to {SAMPLE_RATE_HZ} Hz")
    if short := len(ordered) - len(found):
        notes.append(f"{short} of {len(ordered)} recordings are shorter than {WINDOW_SECONDS:g} s and left out")
    settings = {"embedding": name, "window_seconds": WINDOW_SECONDS}
    if bundle is not None and name != "log_mel":
        settings["bundle"] = bundle.name
    embedded = [recording for recording in ordered if recording.key in found]
    speakers = {recording.key: recording.speaker for recording in embedded}
    sources = {recording.key: recording.source_key for recording in embedded}
    return Embeddings(found, speakers, settings, tuple(notes), sources)


def _embedder(name: str, bundle: Bundle | None) -> Callable[[np.ndarray], np.ndarray]:
    """The function from samples float32[T] at 16 kHz to vectors float64[T // 16000, D]."""
    if name == "log_mel":
        return lambda samples: _by_windows(_log_mel_statistics, samples)
    if bundle is None:
        raise UserError(f"the embedding {name!r} needs a bundle")
    if name == "semantic":
        return functools.partial(_semantic, bundle)
    if name != "speaker":
        raise ValueError(f"there is no embedding {name!r}; log_mel, semantic and speaker there are")
    from audiolm_jax.classifier.network import clip_outputs
    from audiolm_jax.evaluation.voice.trained_classifier import TrainedClassifier

    network = TrainedClassifier.from_bundle(bundle, "speaker")
    if (network.config.sample_rate_hz, network.config.clip_samples) != (SAMPLE_RATE_HZ, _WINDOW_SAMPLES):
        raise UserError(f"the speaker network of bundle {bundle.name} does not take clips of 1 s at 16 kHz")
    return lambda samples: _by_windows(
        lambda windows: clip_outputs(network.config, network.variables, windows)[1], samples
    )


def _by_windows(embed: Callable[[np.ndarray], jax.Array], samples: np.ndarray) -> np.ndarray:
    """float64[W, D] of a function that takes float32[32, 16000]."""
    count = len(samples) // _WINDOW_SAMPLES
    windows = np.asarray(samples[: count * _WINDOW_SAMPLES], np.float32).reshape(count, _WINDOW_SAMPLES)
    vectors = []
    for start in range(0, count, _WINDOWS_AT_ONCE):
        chunk = windows[start : start + _WINDOWS_AT_ONCE]
        padded = np.pad(chunk, ((0, _WINDOWS_AT_ONCE - len(chunk)), (0, 0)))
        vectors.append(np.asarray(embed(padded), np.float64)[: len(chunk)])
    return np.concatenate(vectors) if vectors else np.zeros((0, 0))


@jax.jit
def _log_mel_statistics(windows):
    """Mean and standard deviation float32[B, 2 * mels] over the frames of windows float32[B, T]."""
    log_mel = spectral.log_mel(
        windows, SAMPLE_RATE_HZ, _MEL_WINDOW_SAMPLES, _MEL_HOP_SAMPLES, _MELS, _MEL_FFT_SAMPLES, _MEL_FLOOR
    )
    return jnp.concatenate([jnp.mean(log_mel, axis=1), jnp.std(log_mel, axis=1)], axis=-1)


def _semantic(bundle: Bundle, samples: np.ndarray) -> np.ndarray:
    """Means float64[W, D] of standardised frames over each second."""
    params = bundle.semantic_params
    frames = bundle.semantic.layer_features(params, samples)
    frames = (np.asarray(frames, np.float64) - params["mean"]) / params["std"]
    per_window = _WINDOW_SAMPLES // bundle.semantic.hop_samples
    count = len(samples) // _WINDOW_SAMPLES
    return frames[: count * per_window].reshape(count, per_window, frames.shape[-1]).mean(axis=1)


def holds_embeddings(folder: str | Path) -> bool:
    """Whether a folder holds .npy or .npz files, rather than audio.

    Raises:
        UserError: it is no folder, holds neither, or both.
    """
    ready, audio = bool(matrix_files(folder)), bool(audio_files(folder))
    if ready and audio:
        raise UserError(f"{folder} holds both audio and .npy or .npz files; give a folder with one of them")
    if not ready and not audio:
        raise UserError(f"{folder} holds neither audio nor .npy or .npz embeddings")
    return ready


def read_embeddings(folder: str | Path) -> Embeddings:
    """Ready embeddings: every .npy or .npz file below a folder is a recording, [N, D], or [D] for one vector.

    The first folder below the root names the speaker, where there is one. An .npz file holds one array, of any name.

    Raises:
        UserError: there are none, or a file is not such an array of finite numbers, or of another D than the first.
    """
    found: dict[str, np.ndarray] = {}
    for key, path in by_key(folder, matrix_files(folder)).items():
        found[key] = _read_vectors(path)
        first = next(iter(found.values())).shape[1]
        if found[key].shape[1] != first:
            raise UserError(f"{path} holds vectors of {found[key].shape[1]} numbers, others in {folder} of {first}")
    if not found:
        raise UserError(f"{folder} holds no .npy or .npz files")
    speakers = {key: key.split("/")[0] for key in found}
    return Embeddings(found, speakers, {"embedding": "ready, from files"})


def _read_vectors(path: Path) -> np.ndarray:
    arrays = read_plain_arrays(path)
    if len(arrays) != 1:
        raise UserError(f"{path} holds {len(arrays)} arrays; one [N, D] is needed")
    array = checked_matrix(arrays[0][None] if arrays[0].ndim == 1 else arrays[0], path, "vector")
    if not len(array):
        raise UserError(f"{path} holds no vectors; numbers [N, D] are needed, N at least 1")
    return array.astype(np.float64)
