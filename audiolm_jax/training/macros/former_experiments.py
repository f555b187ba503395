"""Experiments of earlier versions that are a setting of another one now."""

_STAGES = ("semantic", "coarse", "fine")
_OF_ENCODER = {f"w2v_bert_xl_librilight_paper_{chip}": "" for chip in ("v5e", "v5p", "v6e")}
_OF_STAGES = {"paper_v5e": "", "paper_v5p": " --set REMAT=none", "paper_v6e": " --set REMAT=none",
              "24_layers": " --set NUM_LAYERS=24"}

# What to write in their place after "audiolm train" or "audiolm check".
FORMER_EXPERIMENTS = {name: f"w2v_bert_xl_librilight_paper{setting}" for name, setting in _OF_ENCODER.items()} | {
    f"{stage}_librilight_{ending}": f"{stage}_librilight_paper{setting}"
    for stage in _STAGES for ending, setting in _OF_STAGES.items()
}  # fmt: skip
