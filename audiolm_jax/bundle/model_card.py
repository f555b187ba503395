"""MODEL_CARD.md, made from the manifest so that it never says anything else."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from audiolm_jax.bundle.manifest import TEMPERATURE
from audiolm_jax.bundle.tokenizer_kinds import codec_kind, encoder_kind
from audiolm_jax.training.examination import Examination

if TYPE_CHECKING:
    from audiolm_jax.bundle.manifest import Manifest

_STAGE_TEXTS = {
    "semantic": "semantic tokens from semantic tokens",
    "coarse": "coarse acoustic tokens from semantic tokens",
    "acoustic": "coarse acoustic tokens from those before them alone",
    "fine": "fine acoustic tokens from coarse ones",
}
_CLASSIFIER_TEXTS = {
    "detector": "classifier of one-second clips: continuations by this system against recordings through its codec",
    "speaker": "classifier of speakers on one-second clips, for embeddings of voices",
}


def model_card(manifest: "Manifest") -> str:
    """The card as Markdown: what it is, data, steps, figures, limits, licence.

    Provenance may hold `data` (a list of {"name", "hours", "speakers", "licence"} or of sentences), `steps` (updates by
    learner), `limits` and `uses` (lists of sentences).
    """
    sections = [
        f"# {manifest.name}",
        _summary(manifest),
        "## Parts",
        _parts(manifest),
        "## Training",
        _training(manifest),
        "## Figures",
        _figures(manifest.metrics),
        "## Use and limits",
        _limits(manifest),
        "## Licence",
        f"Weights: {manifest.licence}. The code of audiolm_jax is under Apache-2.0.",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(manifest: "Manifest") -> str:
    if not manifest.language_models:
        codec, encoder = _titles(manifest)
        return f"Tokenizers of an AudioLM ({codec}, and {encoder} with k-means), without language models."
    if "acoustic" in manifest.language_models:
        return (
            "The acoustic-only model that AudioLM is compared with, trained with audiolm_jax: it continues sound by "
            "modelling acoustic tokens alone (Borsos et al. 2022)."
        )
    return (
        "An AudioLM trained with audiolm_jax: it continues speech, without text, by modelling semantic and acoustic "
        f"tokens in {len(manifest.language_models)} stages (Borsos et al. 2022)."
    )


def _titles(manifest: "Manifest") -> tuple[str, str]:
    """Names of codec and encoder for people."""
    return codec_kind(manifest.codec.kind, "").title, encoder_kind(manifest.semantic.kind, "").title


def _parts(manifest: "Manifest") -> str:
    codec, semantic = manifest.codec, manifest.semantic
    codec_title, encoder_title = _titles(manifest)
    frames_hz = codec.config.sample_rate_hz / codec.config.hop_samples
    encoder = semantic.config.encoder
    semantic_hz = encoder.sample_rate_hz / encoder.hop_samples
    lines = [
        "| part | what | fingerprint |",
        "|---|---|---|",
        f"| codec | {codec_title}, {codec.config.num_quantizers} levels of {codec.config.codebook_size} codes at "
        f"{frames_hz:g} Hz, {codec.config.sample_rate_hz} Hz audio | `{codec.fingerprint}` |",
        f"| semantic tokenizer | {encoder_title} and k-means, layer {semantic.config.layer}, "
        f"{semantic.config.num_clusters} clusters at {semantic_hz:g} Hz | `{semantic.fingerprint}` |",
    ]
    for name, entry in manifest.language_models.items():
        config = entry.config
        lines.append(
            f"| {name} stage | Transformer, {config.num_layers} layers, {config.embed_dim} wide: {_STAGE_TEXTS[name]} "
            f"| |"
        )
    for name, entry in manifest.classifiers.items():
        lines.append(f"| {name} | {_CLASSIFIER_TEXTS[name]}, {len(entry.config.channels)} blocks of convolutions | |")
    size = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    return "\n".join(lines) + f"\n\nWeights are {manifest.weight_dtype}, {size:.1f} MB with everything."


def _training(manifest: "Manifest") -> str:
    provenance = manifest.provenance
    lines = []
    for corpus in provenance.get("data", []):
        if isinstance(corpus, Mapping):
            facts = [f"{corpus['hours']:.2f} h"] if "hours" in corpus else []
            facts += [f"{corpus['speakers']} speakers"] if "speakers" in corpus else []
            facts += [str(corpus["licence"])] if "licence" in corpus else []
            lines.append(f"- Data: {corpus.get('name', 'unnamed')}" + (f" ({', '.join(facts)})" if facts else ""))
        else:
            lines.append(f"- Data: {corpus}")
    for entry in provenance.get("splits", []):
        for split in entry["splits"] or ():
            settings = ", ".join(f"{name} {value}" for name, value in split["settings"].items())
            files = split["num_train"] + split["num_heldout"]
            lines.append(
                f"- Held out of {', '.join(entry['parts'])}: {split['num_heldout']} of {files} recordings (corpus "
                f"{split['kind']}, {settings})"
            )
    for part in provenance.get("published", []):
        lines.append(f"- Published weights: {part['part']}, {part['origin']} ({part['licence']})")
    steps = dict(provenance.get("steps", {}))
    steps |= {f"{name} stage": entry.steps for name, entry in manifest.language_models.items() if entry.steps}
    steps |= {name: entry.steps for name, entry in manifest.classifiers.items() if entry.steps}
    lines += [f"- Steps: {name}, {count}" for name, count in steps.items()]
    if (examination := Examination.of_meta(provenance, "provenance")) is not None:
        words = examination.in_words().replace("\n  ", "; ")
        lines.append(f"- Codec examined after step {examination.step}: {words}")
    if TEMPERATURE in provenance:
        lines.append(f"- Temperatures of the semantic, coarse and fine stage: {in_words(provenance[TEMPERATURE])}")
    versions = provenance.get("versions", {})
    lines += ["- Made with " + ", ".join(f"{name} {version}" for name, version in versions.items())] if versions else []
    return "\n".join(lines) if lines else "Nothing is recorded about the training."


def _figures(metrics: Mapping[str, Any]) -> str:
    rows = list(flat(metrics))
    if not rows:
        return "None yet: `audiolm eval all --only codec,perplexity --merge` measures them on held-out speakers."
    lines = [measured_on(metrics), "", "| figure | value |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {in_words(value)} |" for name, value in rows])


def measured_on(metrics: Mapping[str, Any]) -> str:
    """In one sentence, whether what figures were measured on was held out, as the report that made them says."""
    heldout = metrics.get("heldout")
    state = heldout.get("split") if isinstance(heldout, Mapping) else None
    return {
        "unknown": "On held-out speakers, by a split that not all of its trainings recorded.",
        "unseen": "On recordings that no training has heard.",
        "nothing held out": "On recordings that its training has heard: none were held out.",
    }.get(state, "On speakers that were held out of all training.")


def flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure with its name, those of a part as "part.figure"."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def in_words(value: Any) -> str:
    """A figure as it is shown: four digits, lists with blanks between."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return " ".join(in_words(item) for item in value)
    return str(value)


def _limits(manifest: "Manifest") -> str:
    provenance = manifest.provenance
    lines = [f"- {line}" for line in provenance.get("uses", ["Research on, and teaching of, audio language models."])]
    lines += [f"- {line}" for line in provenance.get("limits", [])]
    lines.append(
        "- It continues a voice that it is given. Do not use it to imitate a person without their consent, and tell "
        "listeners that what they hear is synthetic."
    )
    return "\n".join(lines)
