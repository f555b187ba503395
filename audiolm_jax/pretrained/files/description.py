"""What an imported model is, in figures and in words: `audiolm import` and `audiolm info`."""

from typing import Any

import jax

from audiolm_jax.pretrained.files.imported_model import ImportedModel
from audiolm_jax.pretrained.kind import CODEC


def describe(model: ImportedModel) -> dict[str, Any]:
    """Kind, sizes, rates, licence and origin, as plain JSON values."""
    made = model.kind.make(model.config)
    facts = {
        "kind": model.kind.name,
        "part": model.kind.part,
        "origin": model.origin,
        "licence": model.licence,
        "path": None if model.path is None else str(model.path),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "sample_rate_hz": made.sample_rate_hz,
        "frames_hz": made.sample_rate_hz / made.hop_samples,
        "fingerprint": model.fingerprint(),
        "left_out": list(model.left_out),
    }
    if model.kind.part == CODEC:
        return facts | {
            "num_quantizers": made.num_quantizers,
            "codebook_size": made.codebook_size,
            "bitrate_bps": made.bitrate_bps(),
        }
    clusters = None if model.kmeans is None else len(model.kmeans.centroids)
    layer = None if model.kmeans is None else model.kmeans.layer
    return facts | {"num_layers": made.num_layers, "dim": made.dim, "layer": layer, "num_clusters": clusters}


def describe_in_words(model: ImportedModel) -> str:
    """The same as lines for a terminal."""
    facts = describe(model)
    where = "" if facts["path"] is None else f" in {facts['path']}"
    lines = [
        f"{facts['kind']} from {facts['origin']}{where}",
        f"licence   {facts['licence']}",
        f"size      {facts['parameters'] / 1e6:.2f} M parameters, fingerprint {facts['fingerprint']}",
    ]
    rate = f"{facts['sample_rate_hz']} Hz audio, {facts['frames_hz']:g} frames a second"
    if facts["part"] == CODEC:
        lines.append(
            f"codec     {rate}, {facts['num_quantizers']} levels of {facts['codebook_size']} codes, "
            f"{facts['bitrate_bps'] / 1000:g} kbps"
        )
    else:
        clusters = (
            "no centroids" if facts["layer"] is None else f"{facts['num_clusters']} clusters of layer {facts['layer']}"
        )
        lines.append(f"encoder   {rate}, {facts['num_layers']} layers, {facts['dim']} wide, {clusters}")
    if facts["left_out"]:
        shown = ", ".join(facts["left_out"][:3]) + (" ..." if len(facts["left_out"]) > 3 else "")
        lines.append(f"left out  {len(facts['left_out'])} tensors of heads: {shown}")
    return "\n".join(lines)
