"""ABX of what a bundle's tokenizers see: semantic tokens, the features behind them, and the codec at its bit rates."""

import functools
from fractions import Fraction

from audiolm_jax.evaluation.abx.abx import AbxSettings, measure
from audiolm_jax.evaluation.abx.frame_features import bundle_features
from audiolm_jax.evaluation.measurement import Measurement
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Lacking, Metric, Step, file_inputs, recording_inputs
from audiolm_jax.evaluation.sound.codec_fidelity import levels_by_name


def _report_steps(material: Material) -> list[Entry]:
    settings, extent = material.settings, material.settings.extent
    if settings.item is None:
        raise Lacking("no item file is given", "give --item FILE, phones and times in --data")
    representations = {"abx_centroids": ("centroids", None), "abx_semantic": ("semantic", None)} | {
        f"abx_codec_{rate}": ("codec", levels) for rate, levels in levels_by_name(material.bundle).items()
    }
    caps = AbxSettings(extent.abx_group_size, extent.abx_x_across, settings.seed)
    rows = sum(1 for _ in settings.item.open("rb"))
    common = {
        "system": material.system, "seed": settings.seed, "item": file_inputs(settings.item),
        "caps": [caps.max_group_size, caps.max_x_across], "recordings": recording_inputs(material.recordings),
    }  # fmt: skip
    return [
        Step(
            name, "abx", f"{rows - 1} phones, {name.removeprefix('abx_').replace('_', ' ')}",
            common | {"representation": [representation, levels]}, 10 + 0.003 * rows,
            functools.partial(_measure, material, representation, levels, caps),
        )
        for name, (representation, levels) in representations.items()
    ]  # fmt: skip


def _measure(material: Material, representation: str, levels: int | None, caps: AbxSettings) -> Measurement:
    folder = material.settings.data.folders[0]
    features = bundle_features(material.bundle, folder, representation, num_quantizers=levels)
    return measure(material.settings.item, features, Fraction(features.feature_seconds), caps)


METRIC = Metric(
    "abx", "Phone discriminability (ABX)",
    "How often a phone is nearer to another phone than to itself, in the same triphone context, spoken by one "
    "speaker (within) or by two (across). Chance is 50\u00a0%, less is better.",
    _report_steps, own_input="item",
)  # fmt: skip
