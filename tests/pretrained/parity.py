"""Compares our port of a published model with the reference implementation. Needs PyTorch and transformers.

    python -m tests.pretrained.parity encodec                      the small model, random weights
    python -m tests.pretrained.parity encodec --size facebook/encodec_24khz
    python -m tests.pretrained.parity encodec --write_golden       what tests/pretrained/encodec_test.py compares with
    python -m tests.pretrained.parity lyra --files DIR             the published files, run by LiteRT

The reference is saved as a Hugging Face folder and read from there by our code. A golden folder holds config.json,
preprocessor_config.json, model.safetensors and expected.safetensors: "wave.N" float32[T] for some lengths; of a codec
"tokens.N" int32[T_a, Q] and "decoded.N" float32[T'], of an encoder "layer.N.L" float32[T_s, D] for each hidden state L.
Prints one JSON object: `tokens_equal` is the share of frames whose tokens all agree, other figures are
max |ours - theirs| / max |theirs|. Times are measured by benchmarks/pretrained.py.
"""

import argparse
import importlib
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.pretrained.files.imported_model import open_source
from audiolm_jax.pretrained.files.weight_map import read_weights, write_weights
from audiolm_jax.pretrained.kind import CODEC, Kind

GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
# model_type -> where its KIND is, and the module of its reference.
PLACES = {
    "hubert": ("hubert", "KIND", "reference_hubert"),
    "wav2vec2": ("hubert", "WAV2VEC2_KIND", "reference_wav2vec2"),
    "wav2vec2-bert": ("w2v_bert2", "KIND", "reference_wav2vec2_bert"),
    "encodec": ("encodec", "KIND", "reference_encodec"),
    "dac": ("dac", "KIND", "reference_dac"),
    "mimi": ("mimi", "KIND", "reference_mimi"),
    "lyra": ("lyra", "KIND", "reference_lyra"),
}
# No multiples of any hop; the shortest last. Tokens of published sizes are compared over more frames, for one in some
# thousands is a tie that every rounding settles anew.
SECONDS = (1.503, 0.9171, 0.5023)
PUBLISHED_CODEC_SECONDS = (8.003, 5.417, 3.123)
# Encoders with more layers are compared at four of them.
_ALL_LAYERS = 6


def speechlike(seconds: float, sample_rate_hz: int, seed: int) -> np.ndarray:
    """A buzz with moving formants, syllables and noise, float32[T] within [-0.5, 0.5]."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    pitch_hz = 110 + 30 * np.sin(2 * np.pi * 0.7 * time_s + seed)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate_hz
    colour = 2 + np.sin(2 * np.pi * 1.3 * time_s + seed)
    voice = sum(np.sin(k * phase) * np.exp(-k / (3 * colour)) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_s + seed), 0.02, 1)
    sound = voice * syllables + 0.05 * rng.normal(size=len(time_s))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |ours - theirs| / max |theirs|; shapes have to agree."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise AssertionError(f"shapes {ours.shape} and {theirs.shape}")
    return float(np.max(np.abs(ours - theirs)) / max(np.max(np.abs(theirs)), 1e-12))


def kind_and_reference(name: str):
    """Our kind of a model_type, and the module that makes its reference."""
    module, attribute, reference = PLACES[name]
    kind = getattr(importlib.import_module(f"audiolm_jax.pretrained.{module}"), attribute)
    return kind, importlib.import_module(f"tests.pretrained.{reference}")


def save_reference(model, extractor, folder: Path) -> None:
    """Writes a reference model as users have it."""
    model.save_pretrained(folder)
    if extractor is not None:
        extractor.save_pretrained(folder)


def load(kind: Kind, folder: Path):
    """Our (object with the contract, parameters, weight map) of a folder."""
    opened = open_source(folder)
    config = kind.read_config(opened.config, opened.preprocessor)
    weight_map = kind.weight_map(config)
    read = read_weights(opened.tensors(), weight_map, str(folder))
    again = read_weights(write_weights(read.params, weight_map), weight_map, "written again")
    jax.tree.map(np.testing.assert_array_equal, again.params, read.params)
    return kind.make(config), read.params, config


def padded(waves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Waves as rows behind which stands noise that must not be heard, and their lengths."""
    rng = np.random.default_rng(9)
    samples = rng.normal(size=(len(waves), max(map(len, waves)))).astype(np.float32)
    for row, wave in zip(samples, waves, strict=True):
        row[: len(wave)] = wave
    return samples, np.int32([len(wave) for wave in waves])


def compare_chunked(ours, params, wave: np.ndarray, tokens: np.ndarray, sound: np.ndarray) -> dict:
    """Figures of a recording in windows of two fifths of it, beside what the reference says of the whole."""
    chunk_seconds = 0.4 * len(wave) / ours.sample_rate_hz
    mine = encode_chunked(ours, params, wave[None], chunk_seconds)[0]
    made = decode_chunked(ours, params, tokens[None], chunk_seconds)[0]
    common = min(len(made), len(sound))
    return {
        "tokens_equal_chunked": float(np.mean(np.all(mine == tokens, axis=1))),
        "decoded_difference_chunked": difference(made[:common], sound[:common]),
    }


def compare_codec(ours, params, reference, model, extractor, seconds=SECONDS) -> tuple[dict, dict]:
    """(figures, expected arrays)."""
    waves = [speechlike(length, ours.sample_rate_hz, seed) for seed, length in enumerate(seconds)]
    expected, alone, together, decoded, decoded_together = {}, [], [], [], []
    samples, lengths = padded(waves)
    batch = np.asarray(ours.encode(params, samples, lengths))
    frames = -(-lengths // ours.hop_samples)
    theirs = [np.asarray(reference.encode(model, extractor, wave), np.int32) for wave in waves]
    tokens = np.zeros((len(waves), frames.max(), theirs[0].shape[1]), np.int32)
    for row, one in enumerate(theirs):
        tokens[row, : len(one)] = one
    batch_decoded = np.asarray(ours.decode(params, tokens, frames.astype(np.int32)))
    for number, (wave, one) in enumerate(zip(waves, theirs, strict=True)):
        mine = np.asarray(ours.encode(params, wave[None]))[0]
        assert mine.shape == one.shape, (mine.shape, one.shape)
        alone.append(np.all(mine == one, axis=1))
        together.append(np.all(batch[number, : len(one)] == one, axis=1))
        sound = np.asarray(reference.decode(model, one), np.float32)
        made = np.asarray(ours.decode(params, one[None]))[0]
        assert len(made) == len(one) * ours.hop_samples
        common = min(len(made), len(sound))
        decoded.append(difference(made[:common], sound[:common]))
        decoded_together.append(difference(batch_decoded[number, :common], sound[:common]))
        expected |= {f"wave.{number}": wave, f"tokens.{number}": one, f"decoded.{number}": sound}
    figures = {
        "tokens_equal": float(np.mean(np.concatenate(alone))),
        "tokens_equal_in_padded_batch": float(np.mean(np.concatenate(together))),
        "decoded_difference": max(decoded),
        "decoded_difference_in_padded_batch": max(decoded_together),
        **compare_chunked(ours, params, waves[0], theirs[0], expected["decoded.0"]),
        "decoded_samples_beside_reference": [
            [len(one) * ours.hop_samples, len(expected[f"decoded.{number}"])] for number, one in enumerate(theirs)
        ],
        "codes_in_use": [len(np.unique(np.concatenate(theirs)[:, q])) for q in range(theirs[0].shape[1])],
    }
    return figures, expected


def compare_encoder(ours, params, reference, model, extractor, seconds=SECONDS) -> tuple[dict, dict]:
    """(figures, expected arrays)."""
    waves = [speechlike(length, ours.sample_rate_hz, seed) for seed, length in enumerate(seconds)]
    samples, lengths = padded(waves)
    theirs = [[np.asarray(layer, np.float32) for layer in reference.features(model, extractor, w)] for w in waves]
    expected, alone, together = {}, {}, {}
    layers = range(len(theirs[0]))
    if len(layers) > _ALL_LAYERS:  # a program is compiled for each
        layers = sorted({0, len(layers) // 3, 2 * len(layers) // 3, len(layers) - 1})
    for layer in layers:
        batch = np.asarray(ours.features(params, samples, lengths, layer))
        for number, wave in enumerate(waves):
            wanted = theirs[number][layer]
            mine = np.asarray(ours.features(params, wave[None], None, layer))[0]
            alone[layer] = max(alone.get(layer, 0), difference(mine, wanted))
            together[layer] = max(together.get(layer, 0), difference(batch[number, : len(wanted)], wanted))
            expected |= {f"wave.{number}": wave, f"layer.{number}.{layer}": wanted}
    figures = {
        "features_difference": max(alone.values()),
        "features_difference_in_padded_batch": max(together.values()),
        "by_layer": {layer: float(f"{value:.2g}") for layer, value in alone.items()},
    }
    return figures, expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=PLACES)
    parser.add_argument("--size", help="a published configuration by its name, or 'all'; the small model without it")
    parser.add_argument("--files", metavar="DIR", help="the published files of a kind that is read from such (lyra)")
    parser.add_argument("--write_golden", action="store_true", help="write tests/golden/pretrained/KIND")
    args = parser.parse_args()
    kind, reference = kind_and_reference(args.kind)
    compare = compare_codec if kind.part == CODEC else compare_encoder
    if args.files:
        ours, params, _ = load(kind, Path(args.files))
        model = reference.from_files(Path(args.files))
        figures, _ = compare(ours, params, reference, model, None, PUBLISHED_CODEC_SECONDS)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        print(json.dumps({"model": args.kind, "size": args.files, "parameters": parameters, **figures}))
        return
    seconds = PUBLISHED_CODEC_SECONDS if args.size and kind.part == CODEC else SECONDS
    sizes = {"tiny": reference.tiny}
    if args.size:
        published = reference.published()
        sizes = published if args.size == "all" else {args.size: published[args.size]}
    for name, make in sizes.items():
        model, extractor = make()
        with tempfile.TemporaryDirectory() as folder:
            save_reference(model, extractor, Path(folder))
            ours, params, config = load(kind, Path(folder))
            figures, expected = compare(ours, params, reference, model, extractor, seconds)
            if args.write_golden and name == "tiny":
                golden = GOLDEN / args.kind
                golden.mkdir(parents=True, exist_ok=True)
                save_reference(model, extractor, golden)
                # Arrays that are views in another order would be written as their memory lies.
                expected = {name: np.ascontiguousarray(array) for name, array in expected.items()}
                save_file(expected, golden / "expected.safetensors")
        parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        print(json.dumps({"model": args.kind, "size": name, "parameters": parameters, **figures}))


if __name__ == "__main__":
    main()
