"""One process of a job over loopback: trains what its arguments name, one run after the other.

    python -m tests.multi_host.worker FOLDER RUN [RUN ...]

A RUN is NAME=LEARNER/DATA,FSDP,TENSOR/STEPS: where it goes below FOLDER, what is trained, the mesh, and until when.
`tokens` below FOLDER are the records of the learner `stage`. With --event, something befalls the last process.
"""

import argparse
import dataclasses
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.codec import quantizer
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.data.feed.feed import TokenFeed
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.sound.codec_exam import CodecExam
from audiolm_jax.lm.config import TransformerConfig
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.parallel import hosts
from audiolm_jax.parallel.mesh import MeshSizes
from audiolm_jax.training.examination import Examination
from audiolm_jax.training.loop import RunOptions, train
from audiolm_jax.training.optimization.optimizers import adam
from audiolm_jax.training.state import Metric, TrainState
from tests.codec import tiny_learner as tiny_codec
from tests.data.tiny_records import STAGES
from tests.training.tiny_run import TinyFeed, TinyLearner


@dataclasses.dataclass(frozen=True)
class CodebookLearner:
    """The codebooks of a codec alone, which the whole batch decides: k-means start, EMA, revival of dead entries.

    The whole codec takes half a minute to compile, in each process.
    """

    settings: QuantizerSettings = QuantizerSettings(decay=0.5, dead_share=0.5, start_latents=128, kmeans_iterations=2)
    name: str = "codebooks"

    def init(self, rng, batch):
        del rng, batch
        codebooks = quantizer.initial_state(2, 16, 4)
        return TrainState.create({"none": jnp.zeros(())}, (), {"codebooks": codebooks})

    def logical_axes(self, batch):
        del batch
        return {"none": ()}

    def start_batches(self, step, batch):
        return -(-self.settings.start_latents * 4 // batch["samples"].size) if step == 0 else 0

    def start_features(self, state, batch):
        del state
        return batch["samples"].reshape(-1, 4)

    def start(self, state, features, rng):
        codebooks = state.collections["codebooks"]
        codebooks = quantizer.kmeans_start(codebooks, jnp.concatenate(features), rng, self.settings)
        return state.replace(collections={"codebooks": codebooks})

    def train_step(self, state, batch, rng):
        latents = batch["samples"].reshape(batch["samples"].shape[0], -1, 4)
        codebooks = state.collections["codebooks"]
        quantized = quantizer.quantize(latents, codebooks.entries, jnp.full(len(latents), 2))
        codebooks = quantizer.update(codebooks, quantized, rng, self.settings)
        loss = jnp.mean(jnp.square(quantized.latents - latents))
        return state.replace(step=state.step + 1, collections={"codebooks": codebooks}), {"loss": Metric.of(loss)}

    def codec(self):
        return None

    def codec_params(self, state):
        return {"codebooks": state.collections["codebooks"].entries}

    def eval_step(self, state, batch):
        entries = state.collections["codebooks"].entries
        return {"loss": Metric.mean(jnp.mean(jnp.abs(entries)) * batch["example_weights"])}


class CodebookExam(CodecExam):
    """Judges the whole codebooks, wherever their parts lie, and without a sound."""

    def _examined(self, codec, params, feed, step):
        entries = np.asarray(params["codebooks"])
        assert entries.shape == (2, 16, 4)
        return Examination(step, {"loss": float(np.mean(np.abs(entries)))}, ("no sound",), False)


@dataclasses.dataclass(frozen=True)
class ToneFeed:
    """The tiny codec's batches."""

    batch_size: int = tiny_codec.BATCH_SIZE
    sample_rate_hz: int = 16_000

    def batch_shapes(self):
        return {"samples": jax.ShapeDtypeStruct((self.batch_size, tiny_codec.NUM_SAMPLES), np.float32)}

    def eval_batch_shapes(self):
        return self.batch_shapes() | {"example_weights": jax.ShapeDtypeStruct((self.batch_size,), np.float32)}

    def initial_cursor(self):
        return {"index": 0}

    def batches(self, cursor, rows=None):
        rows, index = slice(None) if rows is None else list(rows), cursor["index"]
        while True:
            yield {name: array[rows] for name, array in tiny_codec.batch(index).items()}, {"index": index + 1}
            index += 1

    def example_names(self, cursor):
        return ["tones"] * self.batch_size


@dataclasses.dataclass(frozen=True)
class EventfulFeed(TinyFeed):
    """Noise, and something that befalls the last process of the job at a batch."""

    event: str = ""
    at_batch: int = -1

    def batches(self, cursor, rows=None):
        for batch, after in super().batches(cursor, rows):
            if hosts.index() == hosts.count() - 1 and after["index"] == self.at_batch + 1:
                if self.event == "unreadable":
                    raise UserError("shard 7 is gone; bring the file back")
                os.kill(os.getpid(), {"term": signal.SIGTERM, "kill": signal.SIGKILL}[self.event])
            yield batch, after


def learner_and_feed(name, folder, event, at_batch):
    if name == "tiny":
        return TinyLearner(), EventfulFeed(event=event, at_batch=at_batch)
    if name == "codec":
        return tiny_codec.tiny_learner(adam(1e-3, 1, 10)), ToneFeed()
    if name == "codebooks":
        return CodebookLearner(), TinyFeed()
    config = TransformerConfig(num_layers=1, num_heads=4, embed_dim=16, mlp_dim=32, dropout=0.1)
    learner = StageLearner(STAGES[1], config, adam(1e-2, 1, 10))
    return learner, TokenFeed((str(folder / "tokens"),), STAGES[1], batch_size=8, max_eval_examples=11)


def run(folder, text, event="", at_batch=-1):
    name, _, what = text.partition("=")
    learner_name, mesh, steps = what.split("/")
    learner, feed = learner_and_feed(learner_name, folder, event, at_batch)
    evaluate = 0 if learner_name == "codec" else 10
    options = RunOptions(int(steps), log_every_steps=1, eval_every_steps=evaluate, checkpoint_every_steps=7)
    examiner = CodebookExam() if learner_name == "codebooks" else None
    train(learner, feed, folder / name, options, MeshSizes(*map(int, mesh.split(","))), examiner=examiner)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--event", default="")
    parser.add_argument("--at_batch", type=int, default=-1)
    arguments = parser.parse_args()
    try:
        with hosts.joined():
            for text in arguments.runs:
                run(arguments.folder, text, arguments.event, arguments.at_batch)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
