"""A learner of a few hundred parameters and its feed, and a script that trains it in a process of its own."""

import argparse
import dataclasses
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiolm_jax.errors import UserError
from audiolm_jax.parallel import hosts
from audiolm_jax.parallel.mesh import MeshSizes
from audiolm_jax.training.logging import read_metrics
from audiolm_jax.training.loop import RunOptions, train
from audiolm_jax.training.optimization.optimizers import adam
from audiolm_jax.training.state import Metric, TrainState

WIDTH = 16


@dataclasses.dataclass(frozen=True)
class TinyLearner:
    """Two dense layers with dropout, Adam, and a running mean of the inputs in `collections`."""

    width: int = WIDTH
    nan_at_step: int = -1
    name: str = "tiny"
    optimizer: optax.GradientTransformation = adam(1e-2, 5, 100)

    def init(self, rng, batch):
        first, second = jax.random.split(rng)
        params = {
            "first": {"kernel": jax.random.normal(first, (batch["samples"].shape[1], self.width)) * 0.1},
            "second": {"kernel": jax.random.normal(second, (self.width, 8)) * 0.1, "bias": jnp.zeros(8)},
        }
        return TrainState.create(params, self.optimizer.init(params), {"mean": jnp.mean(batch["samples"], axis=0)})

    def logical_axes(self, batch):
        return {
            "first": {"kernel": ("embed", "mlp")},
            "second": {"kernel": ("mlp", "embed"), "bias": (None,)},
        }

    def _loss(self, params, batch, keep):
        hidden = jnp.tanh(batch["samples"] @ params["first"]["kernel"]) * keep
        out = hidden @ params["second"]["kernel"] + params["second"]["bias"]
        return jnp.mean(jnp.square(out - batch["targets"]), axis=1)

    def train_step(self, state, batch, rng):
        keep = jax.random.bernoulli(rng, 0.9, (batch["samples"].shape[0], self.width)) / 0.9
        loss, gradients = jax.value_and_grad(lambda params: jnp.mean(self._loss(params, batch, keep)))(state.params)
        updates, opt_state = self.optimizer.update(gradients, state.opt_state, state.params)
        mean = 0.9 * state.collections["mean"] + 0.1 * jnp.mean(batch["samples"], axis=0)
        loss = jnp.where(state.step + 1 == self.nan_at_step, jnp.nan, loss)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            collections={"mean": mean},
        )
        return state, {"loss": Metric.of(loss), "mean": Metric.mean(mean)}

    def eval_step(self, state, batch):
        return {"loss": Metric.mean(self._loss(state.params, batch, 1.0), batch["example_weights"])}


@dataclasses.dataclass(frozen=True)
class TinyFeed:
    """Noise; batch number n is a function of n. Can send a signal to its own process when a batch is asked for."""

    signal_number: int = 0
    signal_at_batch: int = -1
    num_eval: int = 11
    batch_size: int = 8
    sample_rate_hz: int = 16
    seconds_per_batch: float = 0.0

    def _rows(self, seed, rows):
        rng = np.random.default_rng(seed)
        samples = rng.normal(size=(rows, WIDTH)).astype(np.float32)
        return {"samples": samples, "targets": np.cos(samples[:, :8] * 3)}

    def initial_cursor(self):
        return {"index": 0}

    def batch_shapes(self):
        rows = self.batch_size
        return {
            "samples": jax.ShapeDtypeStruct((rows, WIDTH), np.float32),
            "targets": jax.ShapeDtypeStruct((rows, 8), np.float32),
        }

    def eval_batch_shapes(self):
        return self.batch_shapes() | {"example_weights": jax.ShapeDtypeStruct((self.batch_size,), np.float32)}

    def batches(self, cursor, rows=None):
        rows = list(range(self.batch_size)) if rows is None else list(rows)
        index = cursor["index"]
        while True:
            if index == self.signal_at_batch:
                os.kill(os.getpid(), self.signal_number)
            batch = self._rows(index, self.batch_size)
            time.sleep(self.seconds_per_batch)
            yield {name: array[rows] for name, array in batch.items()}, {"index": index + 1}
            index += 1

    def example_names(self, cursor):
        return [f"noise {cursor['index']}/{row}" for row in range(self.batch_size)]

    def eval_batches(self, rows=None):
        rows = list(range(self.batch_size)) if rows is None else list(rows)
        for start in range(0, self.num_eval, self.batch_size):
            real = min(self.batch_size, self.num_eval - start)
            weights = np.concatenate([np.ones(real), np.zeros(self.batch_size - real)]).astype(np.float32)
            batch = {**self._rows(10_000 + start, self.batch_size), "example_weights": weights}
            yield {name: array[rows] for name, array in batch.items()}


OPTIONS = RunOptions(steps=40, log_every_steps=1, eval_every_steps=10, checkpoint_every_steps=7)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--signal", type=int, default=0)
    parser.add_argument("--at_batch", type=int, default=-1)
    parser.add_argument("--devices", type=int, nargs=3, default=(-1, 1, 1))
    parser.add_argument("--steps", type=int, default=OPTIONS.steps)
    parser.add_argument("--seconds_per_batch", type=float, default=0.0)
    arguments = parser.parse_args()
    feed = TinyFeed(arguments.signal, arguments.at_batch, seconds_per_batch=arguments.seconds_per_batch)
    options = dataclasses.replace(OPTIONS, steps=arguments.steps)
    try:
        with hosts.joined():
            train(TinyLearner(), feed, arguments.workdir, options, MeshSizes(*arguments.devices))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def losses(workdir):
    """(split, step, loss) of a run's lines."""
    return [(line["split"], line["step"], line["loss"]) for line in read_metrics(workdir)]


if __name__ == "__main__":
    sys.exit(main())
