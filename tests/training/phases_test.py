"""A learner whose steps change: each phase in its turn, and what happens once between two of them."""

import dataclasses
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.loop import train
from audiolm_jax.training.saved.checkpoints import load_params
from tests.training.tiny_run import OPTIONS, TinyFeed, TinyLearner

START_STEP, START_BATCHES = 10, 3


@dataclasses.dataclass(frozen=True)
class StartingLearner(TinyLearner):
    """From step 10 on the steps are of another phase; before it the mean is taken anew from the coming batches."""

    def phase(self, step):
        return "late" if step >= START_STEP else "early"

    def start_batches(self, step, batch):
        assert batch["samples"].shape == (8, 16)
        return START_BATCHES if step == START_STEP else 0

    def start_features(self, state, batch):
        return jnp.mean(batch["samples"], axis=0)

    def start(self, state, features, rng):
        return state.replace(collections={"mean": jnp.mean(jnp.stack(features), axis=0) + jax.random.normal(rng, ())})

    def train_step(self, state, batch, rng, phase):
        mean = state.collections["mean"]
        state, metrics = super().train_step(state, batch, rng)
        metrics["late"] = metrics["loss"].of(phase == "late")
        return state.replace(collections={"mean": mean}), metrics


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    train(StartingLearner(), TinyFeed(), workdir, OPTIONS)
    return workdir


def test_every_step_is_of_its_phase(straight):
    late = [(line["step"], line["late"]) for line in read_metrics(straight) if line["split"] == "train"]
    assert late == [(step, float(step > START_STEP)) for step in range(1, OPTIONS.steps + 1)]


def test_the_start_sees_the_coming_batches_and_uses_none_of_them_up(straight):
    arrays, meta = load_params(straight)
    coming = TinyFeed().batches({"index": START_STEP})
    batches = [next(coming)[0] for _ in range(START_BATCHES)]
    expected = np.mean([batch["samples"].mean(axis=0) for batch in batches], axis=0)
    np.testing.assert_allclose(np.ptp(arrays["collections"]["mean"] - expected), 0, atol=1e-5)
    assert meta["cursor"] == {"index": OPTIONS.steps}


@pytest.mark.parametrize("stopped_at", [START_STEP - 1, START_STEP, START_STEP + 3])
def test_stopped_around_the_start_it_resumes_to_the_same(straight, tmp_path, stopped_at):
    train(StartingLearner(), TinyFeed(int(signal.SIGTERM), stopped_at), tmp_path, OPTIONS)
    assert not (tmp_path / "done").exists()
    train(StartingLearner(), TinyFeed(), tmp_path, OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, load_params(tmp_path)[0], load_params(straight)[0])
    assert [line["loss"] for line in read_metrics(tmp_path)] == [line["loss"] for line in read_metrics(straight)]
