"""The kinds of published models that can be imported."""

from audiolm_jax.errors import UserError, shown
from audiolm_jax.pretrained.dac import dac
from audiolm_jax.pretrained.encodec import encodec
from audiolm_jax.pretrained.kind import Kind
from audiolm_jax.pretrained.lyra import lyra
from audiolm_jax.pretrained.mimi import mimi
from audiolm_jax.pretrained.speech import hubert, w2v_bert2

KINDS: tuple[Kind, ...] = (
    hubert.KIND, hubert.WAV2VEC2_KIND, w2v_bert2.KIND, encodec.KIND, dac.KIND, mimi.KIND, lyra.KIND
)  # fmt: skip

# What their authors publish the weights under, for folders without a model card.
PUBLISHED_LICENCES = {
    "hubert": "Apache-2.0",
    "wav2vec2": "Apache-2.0",
    "wav2vec2-bert": "MIT",
    "encodec": "CC-BY-NC-4.0",
    "dac": "MIT",
    "mimi": "CC-BY-4.0",
    "lyra": "Apache-2.0",
}


def find_kind(name: str | None, where: str) -> Kind:
    """The kind of a `model_type`; UserError for one that cannot be imported."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in KINDS)
    raise UserError(f"{where}: model_type is {shown(name)}, but only {known} can be imported")
