"""Tokenising a corpus: every input accounted for, the same tokens as one by one, and resuming after any stop."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.data.corpora.corpora import FolderCorpus
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction import interrupt, shard_work
from audiolm_jax.tokens.extraction.device_engine import run_on_devices
from audiolm_jax.tokens.extraction.extract import extract
from audiolm_jax.tokens.extraction.part_files import part_file
from audiolm_jax.tokens.extraction.shard_work import WorkSettings
from audiolm_jax.tokens.manifest import InputEntry, read_inputs, read_manifest, read_speakers
from audiolm_jax.tokens.records import SourceFile, decode_record
from tests.data.tiny_corpora import flac_announcing
from tests.tokens.tiny_job import BAD, GOOD, run, shard_bytes, write_corpus
from tests.tokens.tiny_tokenizers import load, tiny_codec, tiny_semantic

ROOT = Path(__file__).parents[2]


def records_of(folder: Path) -> dict[str, bytes]:
    """Every record as it stands on disk, by its key."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    found = {}
    for shard in filter(lambda shard: shard.num_records, read_manifest(folder).shards):
        data = ArrayRecordDataSource([str(folder / shard.name)]).__getitems__(list(range(shard.num_records)))
        keys = [decode_record(record).key for record in data]
        assert keys == [entry.key for entry in read_inputs(folder, shard) if entry.status == "ok"]
        found |= dict(zip(keys, data, strict=True))
    return found


def entries_of(folder: Path) -> dict[str, InputEntry]:
    shards = read_manifest(folder).shards
    return {entry.key: entry for shard in shards for entry in read_inputs(folder, shard)}


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def tokens_dir(corpus_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    run(corpus_dir, folder)
    return folder


def test_every_input_is_listed_with_what_became_of_it(corpus_dir, tokens_dir):
    manifest = read_manifest(tokens_dir)
    entries = entries_of(tokens_dir)
    assert set(entries) == {*GOOD, *BAD}
    assert {key for key, entry in entries.items() if entry.status == "ok"} == set(GOOD)
    assert "empty" in entries["eve/empty"].status and "cut short" in entries["eve/cut"].status
    assert len({entry.sha256 for entry in entries.values()}) == len(entries)
    assert set(manifest.left_out) == set(BAD) and manifest.num_left_out == len(BAD)
    listed = [json.loads(line) for line in (tokens_dir / "left_out.jsonl").read_text().splitlines()]
    assert {entry["key"]: entry["status"] for entry in listed} == manifest.left_out
    assert manifest.gate == {"codec_si_sdr_db": 1.0}
    split = FolderCorpus(corpus_dir, heldout_speakers=1)
    assert {u.key for u in split.heldout} == {key for key, entry in entries.items() if entry.split == "heldout"}
    speakers = read_speakers(tokens_dir, "train")
    keys = [
        entry.key
        for shard in manifest.shards_of("train")
        for entry in read_inputs(tokens_dir, shard)
        if entry.status == "ok"
    ]
    assert [speakers.names[speaker] for speaker in speakers.ids] == [key.split("/")[0] for key in keys]


def test_tokens_equal_those_of_the_files_alone(corpus_dir, tokens_dir):
    codec, codec_params = tiny_codec()
    semantic, semantic_params = tiny_semantic()
    records = records_of(tokens_dir)
    assert set(records) == set(GOOD)
    for key, num_samples in list(GOOD.items())[2:4]:
        samples = read_audio(corpus_dir / f"{key}.wav", 16_000).samples[None]
        record = decode_record(records[key])
        assert record.num_samples == num_samples and record.speaker == key.split("/")[0]
        np.testing.assert_array_equal(record.semantic_tokens, semantic.tokenize(semantic_params, samples)[0])
        np.testing.assert_array_equal(record.acoustic_tokens, codec.encode(codec_params, samples)[0])
        assert record.codec_fingerprint == codec.fingerprint(codec_params)


@pytest.mark.parametrize("settings", [{"batch_size": 3}, {"files_per_shard": 100, "batch_size": 4}])
def test_batches_and_companions_change_no_byte_of_a_record(corpus_dir, tokens_dir, tmp_path, settings):
    run(corpus_dir, tmp_path, **settings)
    assert records_of(tmp_path) == records_of(tokens_dir)


def test_a_job_that_is_killed_in_the_middle_of_a_shard_ends_as_if_it_had_not_been(corpus_dir, tmp_path):
    """By SIGKILL, which nothing can answer; `worker_counts.py` does it at many random moments."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(corpus_dir, whole, files_per_shard=1)
    command = [sys.executable, "-m", "tests.tokens.tiny_job", str(corpus_dir), str(broken), "--slow", "0.5"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 240
        while not shard_bytes(broken) or not list(broken.glob(".*.array_record.*.part")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert list(broken.glob(".*.part")) and not (broken / "manifest.json").exists()
    assert 0 < len(shard_bytes(broken)) < len(shard_bytes(whole))
    run(corpus_dir, broken, files_per_shard=1)
    assert shard_bytes(broken) == shard_bytes(whole)
    assert not list(broken.glob(".*"))
    assert read_manifest(broken) == read_manifest(whole)


def test_what_is_done_is_kept_and_what_died_is_cleared(corpus_dir, tokens_dir, tmp_path, monkeypatch, capfd):
    written = []
    real_write = shard_work.write_records

    def stop_at_the_third(path, records):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path.name.split(".")[1] + ".array_record")
        return real_write(path, records)

    monkeypatch.setattr(shard_work, "write_records", stop_at_the_third)
    with pytest.raises(UserError, match="cannot write .*: No space left on device; make room .* what is done is kept"):
        run(corpus_dir, tmp_path)
    with pytest.raises(UserError, match="manifest.json is missing"):
        read_manifest(tmp_path)
    # One part of a process that died, and one of a process that is alive.
    (tmp_path / ".train-00001-of-00002.array_record.abc.part").write_bytes(b"half a shard")
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in written}
    monkeypatch.setattr(shard_work, "write_records", real_write)
    with part_file(tmp_path / "other.array_record") as living:
        run(corpus_dir, tmp_path)
        assert [path.name for path in tmp_path.glob(".*")] == [living.name]
        living.write_bytes(b"")
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in written} == kept
    assert read_manifest(tmp_path) == read_manifest(tokens_dir)
    output = capfd.readouterr().err
    assert "removed what workers that died had begun: train-00001-of-00002.array_record" in output
    assert "2 of" in output and "times real time" in output and "left out:" in output

    figures = run(corpus_dir, tmp_path)
    assert (figures.kept_shards, figures.worked_seconds, figures.left_out) == (figures.shards, 0, len(BAD))
    assert "nothing left to do" in capfd.readouterr().err


def test_other_weights_redo_the_shards(corpus_dir, tokens_dir, tmp_path):
    for scale in (2.0, 1.0):
        run(corpus_dir, tmp_path, files_per_shard=100, scale=scale)
    semantic, _ = tiny_semantic()
    changed = read_manifest(tmp_path)
    assert changed.tokenizers.semantic_fingerprint == semantic.fingerprint({"scale": 1.0})
    assert changed.digest != read_manifest(tokens_dir).digest
    assert changed.summary()["records"]["train"] > 0


def job(files, output_dir, **settings):
    tokenizers = load()
    sizes = tokenizers.sizes()

    def engine(plans):
        for _ in plans:
            settings.get("before", lambda: None)()
        run_on_devices(plans, tokenizers, sizes, WorkSettings())

    return extract(files, output_dir, sizes, {}, engine, left_out=settings.get("left_out", ()))


def test_a_file_that_vanishes_is_listed_and_tried_again(corpus_dir, tmp_path, capfd):
    root = tmp_path / "speech"
    for name in ("a", "b"):
        write_audio(root / f"{name}.wav", Waveform(np.full(2000, 0.1, np.float32), 16_000))
    files = FolderCorpus(root, heldout_speakers=0).source_files()
    away = tmp_path / "away.wav"
    job(files, tmp_path / "out", before=lambda: (root / "b.wav").exists() and (root / "b.wav").rename(away))
    manifest = read_manifest(tmp_path / "out")
    assert manifest.num_records("train") == 1 and "it has vanished" in manifest.left_out["b"]
    assert "1 files could not be read; run the command again" in capfd.readouterr().err

    away.rename(root / "b.wav")
    figures = job(files, tmp_path / "out")
    assert (figures.records, figures.left_out, figures.kept_shards) == (2, 0, 0)


DECODER_ERRORS = {
    "amy/a": MemoryError(),
    "bob/c": RuntimeError("the decoder has given up"),
    "cleo/d": SystemError("returned a result with an exception set"),
    "dan/e": PermissionError(errno.EACCES, "Permission denied"),
}


@pytest.mark.parametrize("engine", ["jax", "beam"])
def test_whatever_a_decoder_raises_leaves_out_one_file_and_nothing_else(
    corpus_dir, tokens_dir, tmp_path, monkeypatch, capfd, engine
):
    real = shard_work.decode_audio

    def decode_audio(path, data):
        error = DECODER_ERRORS.get("/".join(Path(path).with_suffix("").parts[-2:]))
        if error is not None:
            raise error
        return real(path, data)

    monkeypatch.setattr(shard_work, "decode_audio", decode_audio)
    figures = run(corpus_dir, tmp_path, engine)
    records = records_of(tmp_path)
    assert records == {key: data for key, data in records_of(tokens_dir).items() if key not in DECODER_ERRORS}
    statuses = {key: entry.status for key, entry in entries_of(tmp_path).items()}
    for key, told in {
        "amy/a": "cannot be read: there is not enough memory for it; run the command again",
        "bob/c": "cannot be decoded (RuntimeError: the decoder has given up); give another copy",
        "cleo/d": "cannot be decoded (SystemError: returned a result",
        "dan/e": "cannot be read: Permission denied; run the command again",
    }.items():
        assert statuses[key].startswith(f"{corpus_dir}/{key}.wav {told}")
    assert figures.left_out == len(BAD) + len(DECODER_ERRORS)
    output = capfd.readouterr().err
    assert "Traceback" not in output and output.count("left out: ") == len(BAD) + len(DECODER_ERRORS)
    # What may be the machine's fault is tried again.
    monkeypatch.setattr(shard_work, "decode_audio", real)
    run(corpus_dir, tmp_path, engine)
    assert set(GOOD) - set(records_of(tmp_path)) <= {"bob/c", "cleo/d"}


@pytest.mark.parametrize("engine", ["jax", "beam"])
def test_a_resampler_that_fails_leaves_out_one_file(corpus_dir, tmp_path, monkeypatch, engine):
    real = shard_work.resample

    def resample(waveform, sample_rate_hz):
        if len(waveform.samples) == GOOD["bob/c"]:
            raise MemoryError
        return real(waveform, sample_rate_hz)

    monkeypatch.setattr(shard_work, "resample", resample)
    run(corpus_dir, tmp_path, engine)
    assert set(records_of(tmp_path)) == set(GOOD) - {"bob/c"}


@pytest.mark.parametrize("engine", ["jax", "beam"])
def test_damaged_files_and_names_leave_out_themselves_alone(tmp_path, engine):
    root = tmp_path / "speech"
    for key in ("amy/a", "bob/b", "cleo/c"):
        write_audio(root / f"{key}.wav", Waveform(np.full(2000, 0.1, np.float32), 16_000))
    (root / "amy/huge.flac").write_bytes(flac_announcing(2**36 - 1))
    (root / "amy/long.flac").write_bytes(flac_announcing(2**31))
    with open(os.path.join(os.fsencode(root), b"bob/caf\xe9.wav"), "wb") as file:
        file.write((root / "bob/b.wav").read_bytes())
    corpus = FolderCorpus(root, heldout_speakers=1)
    left_out = [InputEntry(e.source, e.key, e.speaker, "train", e.reason, "", 0.0) for e in corpus.left_out]
    tokenizers = load()
    sizes = tokenizers.sizes()

    def run_engine(plans):
        if engine == "jax":
            run_on_devices(plans, tokenizers, sizes, WorkSettings())
        else:
            from audiolm_jax.tokens.extraction.beam_engine import run_on_beam

            run_on_beam(plans, tokenizers, sizes, WorkSettings(), load, ())

    figures = extract(corpus.source_files(), tmp_path / "out", sizes, {}, run_engine, left_out=left_out)
    assert set(records_of(tmp_path / "out")) == {"amy/a", "bob/b", "cleo/c"} and figures.left_out == 3
    manifest = read_manifest(tmp_path / "out")
    assert set(manifest.left_out) == {"amy/huge", "amy/long", r"bob/caf\xe9"}
    assert "not UTF-8; rename it" in manifest.left_out[r"bob/caf\xe9"]
    assert len((tmp_path / "out" / "left_out.jsonl").read_bytes().decode().splitlines()) == 3


@pytest.mark.parametrize("engine", ["jax", "beam"])
def test_ctrl_c_ends_a_job_in_this_process_after_a_file_without_pages(
    corpus_dir, tokens_dir, tmp_path, monkeypatch, capfd, engine
):
    real, read, answered = shard_work.decode_audio, [], threading.Event()

    def decode_audio(path, data):
        read.append(path)
        if len(read) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        if len(read) >= 2:
            assert answered.wait(120)
            time.sleep(0.2)
        return real(path, data)

    monkeypatch.setattr(shard_work, "decode_audio", decode_audio)
    monkeypatch.setattr(interrupt, "print", lambda *a, **k: print(*a, **k) or answered.set(), raising=False)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(corpus_dir, tmp_path, engine, files_per_shard=5)
    assert signal.getsignal(signal.SIGINT) is before
    # How many files the threads had read ahead by then is theirs; no shard after the first was made of them.
    assert len(list(tmp_path.glob("*.array_record.jsonl"))) <= 1 and not list(tmp_path.glob(".*.part"))
    assert not (tmp_path / "manifest.json").exists()
    told = capfd.readouterr().err
    assert [line for line in told.splitlines() if line.startswith("audiolm tokenize:")] == [
        "audiolm tokenize: stopping after this file; again to end now"
    ]
    assert "Traceback" not in told and "KeyboardInterrupt" not in told
    run(corpus_dir, tmp_path, engine)
    assert records_of(tmp_path) == records_of(tokens_dir)


def test_parts_of_a_file_are_decoded_once_and_give_what_cut_files_give(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    write_audio(tmp_path / "in" / "long.wav", Waveform(samples, 16_000))
    decoded = read_audio(tmp_path / "in" / "long.wav").samples
    ranges = (((0, 5000),), ((5000, 9000), (12_000, 13_000)), ((20_000, 24_001),))
    files = [
        SourceFile(str(tmp_path / "in" / "long.wav"), "long.wav", f"long_{n}", "s", "train", part)
        for n, part in enumerate(ranges)
    ]
    times = []
    real = shard_work.decode_audio
    monkeypatch.setattr(shard_work, "decode_audio", lambda *args: times.append(1) or real(*args))
    known = InputEntry("x.flac", "x", "s", "train", "it has no .json", "", 0.0)
    job(files, tmp_path / "out", left_out=[known])
    assert len(times) == 1
    manifest = read_manifest(tmp_path / "out")
    assert "24000 samples" in manifest.left_out["long_2"] and manifest.left_out["x"] == "it has no .json"
    records = {key: decode_record(data) for key, data in records_of(tmp_path / "out").items()}
    codec, codec_params = tiny_codec()
    for key, cut in (("long_0", decoded[:5000]), ("long_1", np.r_[decoded[5000:9000], decoded[12_000:13_000]])):
        assert records[key].num_samples == len(cut)
        np.testing.assert_array_equal(records[key].acoustic_tokens, codec.encode(codec_params, cut[None])[0])


def test_folders_that_refuse_and_folders_without_audio_are_user_errors(corpus_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        run(corpus_dir, tmp_path / "file" / "out")
    with pytest.raises(UserError, match="no audio files"):
        extract([], tmp_path / "out", load().sizes(), {}, lambda plans: None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.wav").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 files"):
        run(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))
    assert "is empty" in next((tmp_path / "out").glob("*.jsonl")).read_text()
    with pytest.raises(UserError, match="was not written; do all workers see that folder"):
        extract(FolderCorpus(corpus_dir).source_files(), tmp_path / "other", load().sizes(), {}, lambda plans: None)


def test_work_settings_do_not_change_with_the_shard():
    assert dataclasses.asdict(WorkSettings()) == {"batch_size": 0, "read_threads": 2}
    assert WorkSettings().rows() == 1 and WorkSettings(batch_size=5).rows() == 5
