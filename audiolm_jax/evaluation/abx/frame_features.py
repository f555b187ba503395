"""Features of recordings, frame by frame: from a folder of arrays, or from a bundle's tokenizers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_jax.audio import audio_files, read_audio, resample
from audiolm_jax.bundle import Bundle
from audiolm_jax.codec.chunked import encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.matrix_file import checked_matrix, matrix_files, read_plain_arrays
from audiolm_jax.evaluation.named_files import by_stem, only
from audiolm_jax.semantic.tokenizer import SemanticTokenizer

REPRESENTATIONS = ("semantic", "centroids", "codec")


@dataclasses.dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Features by the name of the recording; nothing is read before it is asked for.

    Attributes:
        feature_seconds: from one frame to the next; None where the source does not know.
        names: of the recordings there are, sorted.
        load: name -> float32[T, D], or float64 where it is stored so. Raises UserError, in one line that names the
            file, for what is not a finite array of that shape.
        settings: what the features are, plain JSON values.
        resampled: names of recordings that had another sample rate, filled as they are loaded.
    """

    feature_seconds: Fraction | None
    names: list[str]
    load: Callable[[str], np.ndarray]
    settings: Mapping[str, Any]
    resampled: set[str] = dataclasses.field(default_factory=set)


def folder_features(folder: str | Path) -> FrameFeatures:
    """Arrays NAME.npy or NAME.npz (its first array) of shape [T, D], in a folder or folders below it.

    Raises:
        UserError: there is no such folder, or no array below it.
    """
    found = by_stem(matrix_files(folder))
    if not found:
        raise UserError(f"{folder} holds no feature files (.npy, .npz), in no folder below it either")

    def load(name: str) -> np.ndarray:
        path = only(found, name)
        arrays = read_plain_arrays(path)
        if not arrays:
            raise UserError(f"{path} holds no array; save features [T, D] in it")
        return checked_matrix(arrays[0], path)

    return FrameFeatures(
        feature_seconds=None,
        names=sorted(found),
        load=load,
        settings={"features": str(folder)},
    )


def bundle_features(
    bundle: Bundle,
    audio_dir: str | Path,
    representation: str,
    layer: int | None = None,
    num_quantizers: int | None = None,
) -> FrameFeatures:
    """Features of the recordings in a folder, or folders below it, as a bundle's tokenizers see them.

    Args:
        bundle: with its codec and semantic tokenizer.
        audio_dir: recordings; their names are those of the files without suffix.
        representation: "semantic", the layer that is clustered, standardised as for clustering; "centroids", the
            centroid of each semantic token, in the same space; "codec", the sum of the codebook entries of a frame,
            which is what the codec's decoder is given.
        layer: for "semantic", a layer of the encoder in place of the clustered one (0: the projected front end); its
            output as it comes, because the bundle has no mean and deviation of it.
        num_quantizers: for "codec", the levels that are summed; None for all.

    Raises:
        UserError: there is no audio, or layer or num_quantizers do not go with the representation or the bundle.
    """
    if representation not in REPRESENTATIONS:
        raise UserError(f"representation {representation!r} is not one of {', '.join(REPRESENTATIONS)}")
    if layer is not None and representation != "semantic":
        raise UserError(f"--layer goes with --representation semantic, not with {representation}")
    if num_quantizers is not None and representation != "codec":
        raise UserError(f"--num_quantizers goes with --representation codec, not with {representation}")
    settings = {"audio": str(audio_dir), "bundle": bundle.name, "representation": representation}
    if representation == "codec":
        rate_hz, hop_samples = bundle.codec.sample_rate_hz, bundle.codec.hop_samples
        compute, chosen = _codec_embeddings(bundle, num_quantizers)
    else:
        rate_hz, hop_samples = bundle.semantic.sample_rate_hz, bundle.semantic.hop_samples
        compute, chosen = _centroids(bundle) if representation == "centroids" else _semantic(bundle, layer)
    return recording_features((audio_dir,), rate_hz, hop_samples, compute, {**settings, **chosen})


def recording_features(
    folders: Sequence[str | Path],
    rate_hz: int,
    hop_samples: int,
    compute: Callable[[np.ndarray], np.ndarray],
    settings: Mapping[str, Any],
) -> FrameFeatures:
    """Features that are computed of the recordings in folders, or folders below them, when they are asked for.

    Args:
        folders: of recordings; their names are those of the files without suffix.
        rate_hz: of the samples that `compute` takes; others are resampled.
        hop_samples: from one frame to the next.
        compute: samples float32[T] -> [frames, D].
        settings: what the features are, plain JSON values.

    Raises:
        UserError: there is no audio in one of them.
    """
    paths = {folder: audio_files(folder) for folder in folders}
    if silent := [folder for folder, there in paths.items() if not there]:
        raise UserError(f"{silent[0]} holds no audio files, in no folder below it either")
    found = by_stem(path for there in paths.values() for path in there)
    resampled: set[str] = set()

    def load(name: str) -> np.ndarray:
        path = only(found, name)
        waveform = read_audio(path)
        if waveform.sample_rate_hz != rate_hz:
            resampled.add(name)
            waveform = resample(waveform, rate_hz)
        return checked_matrix(np.asarray(compute(waveform.samples), np.float32), f"features of {path}")

    return FrameFeatures(
        feature_seconds=Fraction(hop_samples, rate_hz),
        names=sorted(found),
        load=load,
        settings=settings,
        resampled=resampled,
    )


# Each gives (samples float32[T] -> float32[frames, D], what was chosen as JSON values).


def _semantic(bundle: Bundle, layer: int | None):
    tokenizer, params = bundle.semantic, bundle.semantic_params
    if layer is None:
        chosen = {"layer": tokenizer.config.layer, "standardised": True}
        return lambda samples: (tokenizer.layer_features(params, samples) - params["mean"]) / params["std"], chosen
    # The configuration checks that the encoder has the layer.
    other = SemanticTokenizer(dataclasses.replace(tokenizer.config, layer=layer))
    return lambda samples: other.layer_features(params, samples), {"layer": layer, "standardised": False}


def _centroids(bundle: Bundle):
    centroids = np.asarray(bundle.semantic_params["centroids"])
    chosen = {"layer": bundle.semantic.config.layer, "clusters": len(centroids)}
    return lambda samples: centroids[bundle.semantic.tokenize(bundle.semantic_params, samples[None])[0]], chosen


def _codec_embeddings(bundle: Bundle, num_quantizers: int | None):
    codec, params = bundle.codec, bundle.codec_params
    levels = codec.num_quantizers if num_quantizers is None else num_quantizers
    if levels > codec.num_quantizers:
        raise UserError(f"--num_quantizers is {levels}, but this codec has {codec.num_quantizers} levels")

    def compute(samples):
        tokens = encode_chunked(codec, params, samples[None])[:, :, :levels]
        return codec.embed(params, tokens)[0]

    return compute, {"num_quantizers": levels, "bitrate_bps": codec.bitrate_bps(levels)}
