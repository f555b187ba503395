"""Extraction by Apache Beam: what travels, what is loaded, and the same bytes for any number of workers."""

import dataclasses
import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction import beam_engine, shard_work
from audiolm_jax.tokens.extraction.shard_plan import plan_shards
from audiolm_jax.tokens.extraction.shard_work import WorkSettings, work_shard
from audiolm_jax.tokens.manifest import read_manifest
from tests.tokens.tiny_job import run, shard_bytes, write_corpus
from tests.tokens.tiny_tokenizers import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def tokens_dir(corpus_dir, tmp_path_factory):
    """By the other engine."""
    folder = tmp_path_factory.mktemp("tokens")
    run(corpus_dir, folder, files_per_shard=2)
    return folder


def test_in_this_process_beam_writes_what_the_devices_write(corpus_dir, tokens_dir, tmp_path):
    run(corpus_dir, tmp_path, "beam", files_per_shard=2)
    assert shard_bytes(tmp_path) == shard_bytes(tokens_dir)
    assert read_manifest(tmp_path) == read_manifest(tokens_dir)
    assert not list(tmp_path.glob(".*"))


def test_two_worker_processes_write_what_one_writes(corpus_dir, tokens_dir, tmp_path):
    command = [sys.executable, "-m", "tests.tokens.tiny_job", str(corpus_dir), str(tmp_path), "--engine", "beam"]
    command += ["--files_per_shard", "2", "--direct_num_workers=2"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=400, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    assert result.returncode == 0, result.stderr
    assert shard_bytes(tmp_path) == shard_bytes(tokens_dir)
    assert "INFO" not in result.stderr


def test_ctrl_c_ends_worker_processes_too_and_prints_no_pages(corpus_dir, tmp_path):
    """A terminal sends the signal to all of them."""
    command = [sys.executable, "-m", "tests.tokens.tiny_job", str(corpus_dir), str(tmp_path), "--engine", "beam"]
    command += ["--direct_num_workers=2", "--slow", "0.5"]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    ) as process:  # fmt: skip
        until = time.monotonic() + 240
        while not list(tmp_path.glob("*.array_record.jsonl")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=120)[1]  # until the workers have closed it as well
    assert process.returncode == 130
    assert [line for line in told.splitlines() if "stopped" in line] == ["audiolm tokenize: stopped"]
    assert "Traceback" not in told and "KeyboardInterrupt" not in told and len(told.splitlines()) < 15


def test_neither_weights_nor_lists_of_files_travel(corpus_dir, tmp_path):
    sizes = load().sizes()
    do_fn = beam_engine.TokenizeShard(sizes, load, WorkSettings(), True)
    assert len(pickle.dumps(do_fn)) < 2000
    files = FolderCorpus(corpus_dir).source_files()
    small = plan_shards(epath.Path(tmp_path), files, sizes, 1)[0]
    large = plan_shards(epath.Path(tmp_path), files, sizes, 100)[0]
    assert large.num_inputs > small.num_inputs == 1
    assert len(pickle.dumps(large)) - len(pickle.dumps(small)) < 100 and len(pickle.dumps(large)) < 1000


def test_a_process_loads_the_tokenizers_once(monkeypatch):
    monkeypatch.setattr(beam_engine, "_RESIDENT", {})
    sizes, times = load().sizes(), []

    def counted():
        times.append(1)
        return load()

    do_fns = [beam_engine.TokenizeShard(sizes, counted, WorkSettings(), True) for _ in range(4)]
    threads = [threading.Thread(target=do_fn.setup) for do_fn in do_fns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 1 and [found.sizes() for found in beam_engine._RESIDENT.values()] == [sizes]
    assert all(do_fn._tokenizers is do_fns[0]._tokenizers for do_fn in do_fns)

    monkeypatch.setattr(beam_engine, "_RESIDENT", {})
    with pytest.raises(UserError, match="works in other processes"):
        beam_engine.TokenizeShard(sizes, None, WorkSettings(), True).setup()
    changed = dataclasses.replace(sizes, codec_fingerprint="other")
    with pytest.raises(UserError, match="the bundle changed"):
        beam_engine.TokenizeShard(changed, load, WorkSettings(), True).setup()


def test_workers_that_race_for_one_shard_do_no_harm(corpus_dir, tokens_dir, tmp_path):
    """As when a runner takes a slow worker for a dead one."""
    tokenizers = load()
    sizes = tokenizers.sizes()
    files = FolderCorpus(corpus_dir, heldout_speakers=1).source_files()
    plan = plan_shards(epath.Path(tmp_path), files, sizes, 2)[0]
    threads = [threading.Thread(target=work_shard, args=(plan, tokenizers, sizes, WorkSettings())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shard_bytes(tmp_path) == {plan.name: (tokens_dir / plan.name).read_bytes()}
    assert plan.finished().shard.num_records == 2 and not list(tmp_path.glob(".*.part"))


def test_a_full_disk_is_one_line_and_no_trace(corpus_dir, tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_work, "write_records", full)
    with pytest.raises(UserError, match="No space left on device; make room"):
        run(corpus_dir, tmp_path, "beam")
    assert "Traceback" not in capfd.readouterr().err
    do_fn = beam_engine.TokenizeShard(load().sizes(), load, WorkSettings(), fails_quietly=False)
    do_fn.setup()
    plan = plan_shards(epath.Path(tmp_path), FolderCorpus(corpus_dir).source_files(), load().sizes(), 2)[0]
    with pytest.raises(UserError, match="No space left"):
        list(do_fn.process(plan))


def test_flags_that_beam_does_not_know_are_told(corpus_dir, tmp_path):
    for beam_args, named in ((("--heldout_speaker", "5"), "--heldout_speaker"), (("other",), "other")):
        with pytest.raises(UserError, match=f"unknown argument {named};"):
            run(corpus_dir, tmp_path, "beam", beam_args=beam_args)
    assert beam_engine.beam_options(["--runner=DirectRunner", "--direct_num_workers=2"])[1] is not None
    assert beam_engine.beam_options(["--runner=FlinkRunner", "--some_flag=2"])[1] is None
