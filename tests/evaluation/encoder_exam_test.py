"""The examination of a semantic encoder: what it counts, and that it names what has gone wrong."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.evaluation.layers.encoder_exam import EncoderExam
from audiolm_jax.semantic.objectives import ClassCounts
from audiolm_jax.semantic.w2v_bert import W2vBertConfig
from audiolm_jax.training.state import Metric, TrainState

STATE = TrainState.create({}, ())


@dataclasses.dataclass(frozen=True)
class Counting:
    """A learner whose batches are the ids themselves: (targets, predictions) of masked frames."""

    size: int = 10
    contrastive: float | None = None
    config: W2vBertConfig = W2vBertConfig(num_distractors=9)

    def class_counts(self, state, batch):
        counts = []
        for targets, predictions in batch["pairs"]:
            count = (jnp.zeros(self.size).at[ids].add(1.0) for ids in (targets, predictions))
            counts.append(ClassCounts(*count, jnp.sum(targets == predictions) * 1.0))
        more = {} if self.contrastive is None else {"contrastive_accuracy": Metric.of(self.contrastive)}
        return counts, more


class Batches:
    def __init__(self, *batches):
        self.batches = [{"pairs": [tuple(map(jnp.asarray, pair)) for pair in pairs]} for pairs in batches]

    def eval_batches(self):
        return iter(self.batches)


EVEN = np.arange(20) % 10


def test_counts_are_those_of_all_batches():
    nearly = EVEN.copy()
    nearly[:5] = 9 - nearly[:5]
    found = EncoderExam()(Counting(contrastive=0.8), Batches([(EVEN, EVEN)], [(EVEN, nearly)]), STATE)
    assert found.passed and not found.faults
    assert found.figures["masked_accuracy"] == pytest.approx(35 / 40)
    assert found.figures["most_frequent_share"] == pytest.approx(0.1)
    assert found.figures["target_perplexity"] == pytest.approx(10) and found.figures["target_usage"] == 1.0
    assert found.figures["contrastive_accuracy"] == pytest.approx(0.8)
    one = EncoderExam(num_batches=1)(Counting(), Batches([(EVEN, EVEN)], [(EVEN, nearly)]), STATE)
    assert one.figures["masked_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("learner", "pairs", "words"),
    [
        (Counting(), [(np.zeros(20, int), np.zeros(20, int))], "the targets have collapsed: they are as varied as 1.0"),
        (Counting(), [(EVEN, np.zeros(20, int))], "the predictions have collapsed: they are as varied as 1.0 classes"),
        (Counting(), [(EVEN, (EVEN + 1) % 10)], "predicts nothing: 0.0% of the masked frames are right, and 10.0%"),
        (Counting(), [(EVEN, EVEN), (EVEN, (EVEN + 1) % 10)], "predicts nothing of codebook 2"),
        (Counting(contrastive=0.1), [(EVEN, EVEN)], "10.0% are found, as by chance"),
    ],
)
def test_what_is_wrong_is_named(learner, pairs, words):
    found = EncoderExam(least_perplexity=0.2)(learner, Batches(pairs), STATE)
    assert found.passed is False and any(words in fault for fault in found.faults), found.faults
    assert words in found.in_words()


def test_without_held_out_frames_nothing_is_judged():
    assert EncoderExam()(Counting(), Batches(), STATE) is None
