"""What is told of a job is read from the folder, whoever works in it."""

import time

from etils import epath

from audiolm_jax.tokens.extraction import job_progress
from audiolm_jax.tokens.extraction.job_progress import JobProgress
from audiolm_jax.tokens.extraction.shard_plan import plan_shards
from audiolm_jax.tokens.manifest import InputEntry, ShardEntry, write_inputs
from tests.tokens.shard_plan_test import Lazy
from tests.tokens.tiny_tokenizers import load


def test_lines_tell_what_workers_have_finished(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(job_progress, "_LINE_SECONDS", 0.05)
    folder = epath.Path(tmp_path)
    plans = plan_shards(folder, Lazy(20), load().sizes(), 5)
    with JobProgress(plans) as progress:
        inputs = [InputEntry(f"{n}.wav", f"{n}", "a", "train", "ok" if n else "damaged", "", 450.0) for n in range(5)]
        for plan in plans[:2]:
            plan.path.write_bytes(b"")
            write_inputs(folder, ShardEntry(plan.name, "train", 5, 4, 1800.0, plan.digest, ""), inputs)
        # Of an earlier job with other inputs.
        plans[2].path.write_bytes(b"")
        write_inputs(folder, ShardEntry(plans[2].name, "train", 5, 4, 1800.0, "other", ""), inputs)
        until = time.monotonic() + 30
        while len(progress._done) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tokenize:")]
    assert lines[-1].startswith("tokenize: 10/20 files, 1.00 h of audio, ")
    assert "times real time, 2 left out, about" in lines[-1] and lines[-1].endswith("to go")


def test_a_process_that_does_not_join_says_nothing(tmp_path, capfd):
    with JobProgress([], shown=False):
        pass
    assert capfd.readouterr().err == ""
