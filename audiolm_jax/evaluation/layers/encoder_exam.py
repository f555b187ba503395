"""The examination of a semantic encoder in training: what it predicts under masks, of what, and what has gone wrong.

Losses of masked prediction fall when what is to be predicted gets poorer, and an accuracy says nothing without that of
the most frequent class. So at every evaluation classes are counted, over many held-out batches.
"""

import dataclasses
import functools
import itertools

import jax
import numpy as np

from audiolm_jax.data.feed.feed import AudioFeed
from audiolm_jax.evaluation.sound.code_usage import code_perplexity, code_usage
from audiolm_jax.parallel import hosts
from audiolm_jax.ranges import Count, Share
from audiolm_jax.semantic.cluster_learner import ClusterPredictionLearner
from audiolm_jax.semantic.learner import W2vBertLearner
from audiolm_jax.semantic.objectives import ClassCounts, codebook_ending
from audiolm_jax.training.examination import Examination
from audiolm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class EncoderExam:
    """Examiner of a w2v-BERT, or of the prediction of clusters (see `training.examination`), on held-out speakers.

    Attributes:
        num_batches: held-out batches that are counted, their masks the same every time.
        least_perplexity: targets have collapsed whose perplexity is a smaller share of the number of their classes, and
            predictions whose perplexity is a smaller share of the targets'.
    """

    num_batches: Count = 20
    least_perplexity: Share = 0.05

    def __call__(
        self, learner: W2vBertLearner | ClusterPredictionLearner, feed: AudioFeed, state: TrainState
    ) -> Examination | None:
        """As `training.examination.Examiner`; None where nothing is held out, or several processes share the model."""
        if hosts.count() > 1:
            return None  # eval_step has the figures of each batch
        found = None
        for batch in itertools.islice(feed.eval_batches(), self.num_batches):
            more = jax.tree.map(lambda values: np.asarray(values, np.float64), _counted(learner, state, batch))
            found = more if found is None else jax.tree.map(np.add, found, more)
        if found is None or not found[0][0].targets.any():
            return None
        totals, metrics = found
        figures, faults = {name: metric.value for name, metric in metrics.items()}, []
        # A code tells itself from K others by chance once in K + 1 times.
        contrastive = figures.get("contrastive_accuracy", 1.0)
        if contrastive < 2 / (learner.config.num_distractors + 1):
            faults.append(f"the context says nothing of its code: {contrastive:.1%} are found, as by chance")
        for index, counts in enumerate(totals):
            figures |= {f"{name}{codebook_ending(index)}": value for name, value in _figures(counts).items()}
            faults += self._faults(counts, "" if len(totals) == 1 else f" of codebook {index + 1}")
        return Examination(int(state.step), figures, tuple(faults), not faults)

    def _faults(self, counts: ClassCounts, of: str) -> list[str]:
        figures, size, faults = _figures(counts), len(counts.targets), []
        targets, predictions = figures["target_perplexity"], figures["prediction_perplexity"]
        # A few frames cannot use all classes, however well these are spread.
        if targets < self.least_perplexity * min(size, counts.targets.sum()):
            faults.append(f"the targets{of} have collapsed: they are as varied as {targets:.1f} of {size} classes")
        if predictions < self.least_perplexity * targets:
            faults.append(
                f"the predictions{of} have collapsed: they are as varied as {predictions:.1f} classes, and the targets "
                f"as {targets:.1f}"
            )
        right, most_frequent = figures["masked_accuracy"], figures["most_frequent_share"]
        if right <= most_frequent:
            faults.append(
                f"the encoder predicts nothing{of}: {right:.1%} of the masked frames are right, and "
                f"{most_frequent:.1%} are of the most frequent class"
            )
        return faults


@functools.partial(jax.jit, static_argnums=0)
def _counted(learner, state: TrainState, batch):
    return learner.class_counts(state, batch)


def _figures(counts: ClassCounts) -> dict[str, float]:
    total = counts.targets.sum()
    return {
        "masked_accuracy": float(counts.right / total),
        "most_frequent_share": float(counts.targets.max() / total),
        "target_usage": float(code_usage(counts.targets)),
        "target_perplexity": float(code_perplexity(counts.targets)),
        "prediction_perplexity": float(code_perplexity(counts.predictions)),
    }
