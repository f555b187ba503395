"""What a bundle is, in figures and in words: `audiolm info`."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from audiolm_jax.bundle.bundle import Bundle
from audiolm_jax.bundle.manifest import CODEC_FILE, SEMANTIC_FILE, classifier_file, weights_file
from audiolm_jax.bundle.model_card import flat, in_words, measured_on
from audiolm_jax.bundle.tokenizer_kinds import kind_of_codec, kind_of_encoder
from audiolm_jax.bundle.training_splits import SPLITS


def count_parameters(params: Any) -> int:
    """Numbers in a tree of arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def describe(bundle: Bundle) -> dict[str, Any]:
    """Sizes, parameters, bit rates, licence, figures and provenance, as plain JSON values.

    `bytes` of a part are those on disk, None for a bundle in memory.
    """
    codec, semantic = bundle.codec, bundle.semantic
    parts = {
        "codec": {
            "kind": kind_of_codec(codec).title,
            "parameters": count_parameters(bundle.codec_params),
            "bytes": _size(bundle, CODEC_FILE),
            "fingerprint": bundle.codec_fingerprint,
            "sample_rate_hz": codec.sample_rate_hz,
            "frames_hz": codec.sample_rate_hz / codec.hop_samples,
            "num_quantizers": codec.num_quantizers,
            "codebook_size": codec.codebook_size,
            "bitrates_bps": [codec.bitrate_bps(levels) for levels in range(1, codec.num_quantizers + 1)],
        },
        "semantic": {
            "kind": f"{kind_of_encoder(semantic.config.encoder).title} and k-means",
            "parameters": count_parameters(bundle.semantic_params),
            "bytes": _size(bundle, SEMANTIC_FILE),
            "fingerprint": bundle.semantic_fingerprint,
            "sample_rate_hz": semantic.sample_rate_hz,
            "frames_hz": semantic.sample_rate_hz / semantic.hop_samples,
            "vocab_size": semantic.vocab_size,
            "bitrate_bps": float(np.log2(semantic.vocab_size)) * semantic.sample_rate_hz / semantic.hop_samples,
        },
    }
    for name in bundle.stages:
        model = bundle.language_models[name]
        parts[f"lm_{name}"] = {
            "kind": "Transformer",
            "parameters": count_parameters(model.params),
            "bytes": _size(bundle, weights_file(name)),
            "num_layers": model.config.num_layers,
            "num_heads": model.config.num_heads,
            "embed_dim": model.config.embed_dim,
            "vocab_size": model.stage.layout.vocab_size,
            "crop_seconds": float(model.stage.crop_seconds),
            "sequence_length": model.stage.sequence_length,
            "collapse_repeats": model.stage.collapse_repeats,
            "steps": model.steps,
        }
    for name, classifier in bundle.classifiers.items():
        parts[name] = {
            "kind": "ClipClassifier",
            "parameters": count_parameters(classifier.variables["params"]),
            "bytes": _size(bundle, classifier_file(name)),
            "channels": list(classifier.config.channels),
            "num_classes": classifier.config.num_classes,
            "clip_seconds": classifier.config.clip_seconds,
            "steps": classifier.steps,
        }
    total_bytes = None
    if bundle.path is not None:
        total_bytes = sum(path.stat().st_size for path in bundle.path.iterdir() if path.is_file())
    return {
        "name": bundle.name,
        "licence": bundle.licence,
        "path": None if bundle.path is None else str(bundle.path),
        "bytes": total_bytes,
        "parameters": sum(part["parameters"] for part in parts.values()),
        "stages": list(bundle.stages),
        "parts": parts,
        "metrics": bundle.metrics,
        "provenance": _without_samples(bundle.provenance),
    }


def _without_samples(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance without the hashes of training files, which say nothing to people."""
    if SPLITS not in provenance:
        return provenance
    entries = [
        entry | {"splits": [{k: v for k, v in split.items() if k != "train_sample"} for split in entry["splits"] or ()]}
        for entry in provenance[SPLITS]
    ]
    return provenance | {SPLITS: entries}


def describe_in_words(bundle: Bundle) -> str:
    """The same as lines for a terminal."""
    facts = describe(bundle)
    where = "" if facts["path"] is None else f" in {facts['path']}"
    lines = [f"{facts['name']}{where}", f"licence   {facts['licence']}"]
    if not facts["stages"]:
        lines.append("stages    none: tokenizers only, nothing can be generated")
    size = "" if facts["bytes"] is None else f", {facts['bytes'] / 1e6:.1f} MB"
    lines.append(f"size      {facts['parameters'] / 1e6:.2f} M parameters{size}")
    lines.append("")
    for name, part in facts["parts"].items():
        lines.append(f"{name:<13}{part['parameters'] / 1e6:7.2f} M  {_part_in_words(name, part)}")
    if (warning := bundle.codec_warning) is not None:
        lines += ["", f"warning: {warning}"]
    if facts["metrics"]:
        lines += ["", f"figures: {measured_on(facts['metrics'])}"]
        lines += [f"  {name:<36} {in_words(value)}" for name, value in flat(facts["metrics"])]
    return "\n".join(lines)


def _size(bundle: Bundle, name: str) -> int | None:
    return None if bundle.path is None else (Path(bundle.path) / name).stat().st_size


def _part_in_words(name: str, part: dict[str, Any]) -> str:
    if name == "codec":
        low, high = part["bitrates_bps"][0] / 1000, part["bitrates_bps"][-1] / 1000
        return (
            f"{part['num_quantizers']} x {part['codebook_size']} codes at {part['frames_hz']:g} Hz, "
            f"{low:g} to {high:g} kbps, fingerprint {part['fingerprint']}"
        )
    if name == "semantic":
        return (
            f"{part['vocab_size']} clusters at {part['frames_hz']:g} Hz, {part['bitrate_bps'] / 1000:g} kbps, "
            f"fingerprint {part['fingerprint']}"
        )
    if part["kind"] == "ClipClassifier":
        return (
            f"{len(part['channels'])} blocks up to {part['channels'][-1]} channels, {part['num_classes']} classes, "
            f"clips of {part['clip_seconds']:g} s, {part['steps']} steps"
        )
    return (
        f"{part['num_layers']} layers, {part['num_heads']} heads, {part['embed_dim']} wide, {part['vocab_size']} ids, "
        f"{part['crop_seconds']:g} s, {part['steps']} steps"
    )
