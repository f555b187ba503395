"""Every metric of a report, by the declaration that stands beside its `measure`, and the plan that they make."""

from audiolm_jax.evaluation.abx import bundle_abx
from audiolm_jax.evaluation.generated import ladder, sample_counts
from audiolm_jax.evaluation.language import minimal_pairs, perplexity, phrase_continuations
from audiolm_jax.evaluation.report.report_material import Material
from audiolm_jax.evaluation.report.report_plan import Entry, Metric, Step
from audiolm_jax.evaluation.sound import codec_fidelity, codec_words, frechet
from audiolm_jax.evaluation.voice import detector, speaker
from audiolm_jax.evaluation.words import word_error

# In the order in which they are measured, the quick ones first; what others need comes before them.
METRICS: tuple[Metric, ...] = (
    perplexity.METRIC,
    codec_fidelity.METRIC,
    bundle_abx.METRIC,
    *minimal_pairs.METRICS,
    sample_counts.METRIC,
    codec_words.METRIC,
    word_error.METRIC,
    phrase_continuations.METRIC,
    speaker.METRIC,
    detector.METRIC,
    frechet.METRIC,
    ladder.METRIC,
)


def shown_metrics() -> list[Metric]:
    """The metrics in the order in which they are shown: both parts on the codec beside each other."""
    others = [metric for metric in METRICS if metric is not codec_words.METRIC]
    behind = others.index(codec_fidelity.METRIC) + 1
    return [*others[:behind], codec_words.METRIC, *others[behind:]]


def plan(material: Material) -> list[Entry]:
    """Everything that is asked for, in the order of METRICS; what others need comes before them in any case."""
    entries = [entry for metric in METRICS for entry in metric.plan(material)]
    wanted = {entry.name for entry in entries if material.settings.wants(entry.metric)}
    for entry in reversed(entries):
        if entry.name in wanted and isinstance(entry, Step):
            wanted |= {*entry.needs, *entry.uses}
    return [entry for entry in entries if entry.name in wanted]
