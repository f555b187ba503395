"""Extraction on the devices of one or several processes: shares, help for the dead, and the same bytes."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from etils import epath

from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction.device_engine import ShardQueue, run_on_devices
from audiolm_jax.tokens.extraction.part_files import part_file
from audiolm_jax.tokens.extraction.shard_plan import plan_shards
from audiolm_jax.tokens.extraction.shard_work import WorkSettings, work_shard
from tests.tokens.tiny_job import run, shard_bytes, write_corpus
from tests.tokens.tiny_tokenizers import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("speech"))


def plans_in(corpus_dir, folder, files_per_shard=1):
    files = FolderCorpus(corpus_dir, heldout_speakers=0).source_files()
    return plan_shards(epath.Path(folder), files, load().sizes(), files_per_shard)


def test_every_process_begins_with_its_own_share(corpus_dir, tmp_path):
    plans = plans_in(corpus_dir, tmp_path)
    first = [[ShardQueue(plans, index, 3).take() for _ in range(1)][0].name for index in range(3)]
    assert first == [plan.name for plan in plans[:3]]
    queue = ShardQueue(plans, 1, 3)
    taken = [int(queue.take().name[6:11]) for _ in plans]
    assert taken == [1, 4, 7, 2, 5, 8, 0, 3, 6] and queue.take() is None
    # Who finds some of them done begins with the same places of the names.
    assert ShardQueue(plans[3:], 1, 3).take().name == plans[4].name


def test_what_the_living_work_on_is_left_to_them_and_what_the_dead_began_is_not(corpus_dir, tmp_path):
    plans = plans_in(corpus_dir, tmp_path, files_per_shard=5)
    tokenizers = load()
    (tmp_path / f".{plans[0].name}.dead.part").write_bytes(b"half a shard")
    queue = ShardQueue(plans, 0, 2)
    found = []
    with part_file(plans[1].path) as living:
        assert queue.take() is plans[0]
        waiting = threading.Thread(target=lambda: found.append(queue.take()))
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive() and not found
        living.write_bytes(b"")
    # Its writer is gone, and the shard is not that of this plan.
    waiting.join(30)
    assert found == [plans[1]]
    work_shard(plans[0], tokenizers, tokenizers.sizes(), WorkSettings())
    queue.done(plans[0])
    with pytest.raises(UserError, match="do not read the same input"):
        queue.done(plans[1])


def test_an_error_in_one_thread_ends_all(corpus_dir, tmp_path, monkeypatch):
    from audiolm_jax.tokens.extraction import device_engine

    def refuse(*_):
        raise UserError("cannot write")

    monkeypatch.setattr(device_engine, "work_shard", refuse)
    tokenizers = load()
    with pytest.raises(UserError, match="cannot write"):
        run_on_devices(plans_in(corpus_dir, tmp_path), tokenizers, tokenizers.sizes(), WorkSettings())


def test_two_processes_of_two_devices_write_what_one_device_writes(corpus_dir, tmp_path):
    """A JAX job over loopback; what process 1 of another job left when it died is cleared and made again."""
    run(corpus_dir, tmp_path / "one", files_per_shard=1)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / ".train-00003-of-00006.array_record.dead.part").write_bytes(b"half a shard")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.tokens.tiny_job", str(corpus_dir), str(tmp_path / "two")]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stderr=subprocess.PIPE,
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "2",
                "AUDIOLM_COORDINATOR": f"localhost:{port}",
                "AUDIOLM_NUM_PROCESSES": "2",
                "AUDIOLM_PROCESS_ID": str(index),
            },
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert shard_bytes(tmp_path / "two") == shard_bytes(tmp_path / "one")
    assert (tmp_path / "two" / "manifest.json").read_text() == (tmp_path / "one" / "manifest.json").read_text()
    assert not list((tmp_path / "two").glob(".*"))
    assert "workers that died had begun: train-00003-of-00006" in outputs[0] and "already done" not in outputs[1]
