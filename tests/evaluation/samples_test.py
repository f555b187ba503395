"""Samples of a tiny untrained system: files, what they depend on, and what an interrupted run leaves."""

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import export_bundle
from audiolm_jax.codec.chunked import decode_chunked, encode_chunked
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.generated import samples as samples_module
from audiolm_jax.evaluation.generated.samples import (
    KINDS,
    SampleSettings,
    choose_recordings,
    make_samples,
    usable,
)
from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.generation.pipeline import AudioLM
from tests.tiny_system import tiny_system, tiny_tokenizers

SETTINGS = SampleSettings(num_samples=2, prompt_seconds=0.8, seconds=0.5, seed=3, temperature=1.0)
RATE_HZ = 16_000


def noise(seconds, rate_hz=RATE_HZ, seed=0):
    return Waveform(0.2 * np.random.default_rng(seed).uniform(-1, 1, round(seconds * rate_hz)), rate_hz)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two speakers; one recording of another rate, one too short to prompt with, one that is no audio."""
    folder = tmp_path_factory.mktemp("speech")
    write_audio(folder / "anna" / "one.wav", noise(1.1, seed=1))
    write_audio(folder / "anna" / "two.wav", noise(1.203, 44_100, seed=2))
    write_audio(folder / "bert" / "one.wav", noise(2.3, seed=3))
    write_audio(folder / "bert" / "short.wav", noise(0.6, seed=4))
    (folder / "bert" / "broken.wav").write_bytes(b"no audio")
    (folder / "anna" / "one.txt").write_text("to be spoken again")
    return folder


@pytest.fixture(scope="module")
def bundle():
    return tiny_system(tiny_tokenizers())


@pytest.fixture(scope="module")
def recordings(folder):
    return find_recordings([folder], heldout_speakers=1)


@pytest.fixture(scope="module")
def made(bundle, recordings, tmp_path_factory):
    return make_samples(bundle, recordings, tmp_path_factory.mktemp("samples") / "out", SETTINGS)


def output_of(made):
    return next(samples[0].path.parents[2] for samples in made.values())


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")}


def test_files_keys_and_lengths(made, recordings):
    sources = {recording.key: recording for recording in recordings}
    assert list(made) == list(KINDS)
    readable = ["anna/one", "anna/two", "bert/one", "bert/short"]
    assert [one.key for one in made["original"]] == [one.key for one in made["reconstruction"]] == readable
    assert [one.key for one in made["fine"]] == [f"{key}#0" for key in readable]
    assert [one.key for one in made["acoustic"]] == [f"{key}#{index}" for key in readable for index in (0, 1)]
    assert [one.key for one in made["continuation"]] == [f"{key}#{i}" for key in readable[:3] for i in (0, 1)]
    for kind, ours in made.items():
        for one in ours:
            source = sources[one.source_key]
            assert (one.speaker, one.text, one.heldout) == (source.speaker, source.text, source.heldout)
            waveform, original = read_audio(one.path), read_audio(source.path)
            expected = round(SETTINGS.seconds * RATE_HZ)
            if kind != "continuation":
                expected = -(-len(original.samples) * RATE_HZ // original.sample_rate_hz)
            assert (waveform.sample_rate_hz, len(waveform.samples)) == (RATE_HZ, expected)
    assert made["acoustic"][1].path.as_posix().endswith("out/acoustic/anna/one-1.wav")


def test_what_the_kinds_are(made, bundle, recordings):
    source = next(one for one in recordings if one.key == "anna/one")
    original, rebuilt = (read_audio(made[kind][0].path).samples for kind in ("original", "reconstruction"))
    np.testing.assert_allclose(original, read_audio(source.path).samples, atol=1e-4)
    tokens = encode_chunked(bundle.codec, bundle.codec_params, read_audio(source.path).samples[None])
    decoded = decode_chunked(bundle.codec, bundle.codec_params, tokens)[0, : len(rebuilt)]
    # A file whose peak is over the limit is scaled as a whole.
    np.testing.assert_allclose(rebuilt, decoded * min(1, 0.99 / np.abs(decoded).max()), atol=1e-4)
    first, second = (read_audio(one.path).samples for one in made["acoustic"][:2])
    assert (first != second).any()
    for one in made["continuation"]:
        prompted = output_of(made) / "prompted" / one.path.relative_to(output_of(made) / "continuation")
        whole, new = read_audio(prompted).samples, read_audio(one.path).samples
        assert len(whole) == round(1.3 * RATE_HZ)
        tail = whole[-len(new) :]
        assert np.corrcoef(tail, new)[0, 1] > 0.9999  # but for the scaling of either


def test_what_cannot_be_made_is_told(made):
    assert set(made.left_out["original"]) == {"bert/broken"}
    assert set(made.left_out["continuation"]) == {"bert/broken", "bert/short"}
    assert made.left_out["continuation"]["bert/short"] == "shorter than the prompt of 0.8 s"
    broken, short = sorted(made.notes, key=lambda note: "shorter" in note)
    assert short == "1 left out of continuation: shorter than the prompt of 0.8 s"
    assert broken.startswith("1 left out of original, reconstruction, fine, acoustic, continuation: ")


def test_a_sample_depends_on_its_recording_alone(made, bundle, recordings, tmp_path):
    fewer = [one for one in recordings if one.key in ("bert/one", "anna/two")][::-1]
    again = make_samples(bundle, fewer, tmp_path, SETTINGS)
    everything = contents(output_of(made))
    assert len(contents(tmp_path)) == 2 * (1 + 1 + 1 + 2 + 2 + 2)
    for name, data in contents(tmp_path).items():
        assert data == everything[name], name
    assert [one.key for one in again["fine"]] == ["anna/two#0", "bert/one#0"]


def test_a_run_that_was_stopped_goes_on(made, bundle, recordings, tmp_path, monkeypatch):
    written = []

    def stops(part, path):
        if len(written) == 14:
            raise KeyboardInterrupt
        if path.suffix == ".wav":
            written.append(path)
        os.rename(part, path)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        make_samples(bundle, recordings, tmp_path / "out", SETTINGS)
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    assert len(before) == 14
    found = make_samples(bundle, recordings, tmp_path / "out", SETTINGS)
    assert contents(tmp_path / "out") == contents(output_of(made))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found.left_out == made.left_out


def test_samples_that_find_no_room_are_kept_elsewhere(bundle, recordings, tmp_path, monkeypatch):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    generate = AudioLM.generations_together

    def while_the_disk_fills(self, *args, **kwargs):
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(AudioLM, "generations_together", while_the_disk_fills)
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    try:
        with pytest.raises(UserError, match="No space left on device.*kept in .*move what is in it to .*disk/out"):
            make_samples(bundle, recordings, disk / "out", SETTINGS, ["continuation"])
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    monkeypatch.undo()
    (folder,) = kept.iterdir()
    whole = make_samples(bundle, recordings, tmp_path / "whole", SETTINGS, ["continuation"])
    assert contents(folder) == contents(output_of(whole))


def test_a_finished_folder_needs_no_generation(made, bundle, recordings, monkeypatch):
    monkeypatch.setattr(samples_module, "_make", lambda *arguments: pytest.fail("makes what is there"))
    assert make_samples(bundle, recordings, output_of(made), SETTINGS) == made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_samples": 3}, "num_samples 2, not 3"),
        ({"seed": 4}, "seed 3, not 4"),
        ({"seconds": 0.6}, "seconds 0.5, not 0.6"),
        ({"temperature": (1.0, 1.0, 0.9)}, "temperature"),
    ],
)
def test_other_settings_need_another_folder(made, bundle, recordings, change, says):
    with pytest.raises(UserError, match=says) as error:
        make_samples(bundle, recordings, output_of(made), dataclasses.replace(SETTINGS, **change))
    assert "choose another --output" in str(error.value) and "\n" not in str(error.value)


def test_other_makers_and_sources_need_another_folder(made, bundle, recordings, folder, tmp_path):
    other = tiny_system(tiny_tokenizers(), seed=2)
    with pytest.raises(UserError, match="another bundle; choose another --output"):
        make_samples(other, recordings, output_of(made), SETTINGS, ["original"])
    shutil.copytree(folder / "anna", tmp_path / "data" / "anna")
    write_audio(tmp_path / "data" / "anna" / "one.wav", noise(1.1, seed=9))
    changed = find_recordings([tmp_path / "data"], 0)
    with pytest.raises(UserError, match="another recording anna/one; choose another --output"):
        make_samples(bundle, changed, output_of(made), SETTINGS, ["original"])
    (tmp_path / "speech" / "original").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no samples\.json"):
        make_samples(bundle, recordings, tmp_path / "speech", SETTINGS, ["original"])
    (tmp_path / "speech" / "samples.json").write_text("{")
    with pytest.raises(UserError, match=r"samples\.json cannot be read"):
        make_samples(bundle, recordings, tmp_path / "speech", SETTINGS, ["original"])
    with pytest.raises(UserError, match="no kind 'singing'"):
        make_samples(bundle, recordings, tmp_path / "new", SETTINGS, ["singing"])


def test_tokenizers_alone_reconstruct(recordings, tmp_path):
    tokenizers = tiny_tokenizers()
    found = make_samples(tokenizers, recordings, tmp_path, SETTINGS, ["reconstruction", "original"])
    assert {kind: len(ours) for kind, ours in found.items()} == {"original": 4, "reconstruction": 4}
    with pytest.raises(UserError, match="cannot generate"):
        make_samples(tokenizers, recordings, tmp_path, SETTINGS, ["fine"])


def test_one_name_in_two_folders(bundle, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "more")
    recordings = find_recordings([folder, tmp_path / "more"], 0)
    found = make_samples(bundle, recordings, tmp_path / "out", SETTINGS, ["original"])
    assert len({one.path for one in found["original"]}) == 8
    assert all(one.path.relative_to(tmp_path / "out" / "original").parts[0] == one.speaker for one in found["original"])


def test_a_hash_in_a_file_name_is_part_of_it(bundle, tmp_path):
    for number, name in enumerate(("take", "take#0", "take#0#1")):
        write_audio(tmp_path / "data" / "s" / f"{name}.wav", noise(0.3, seed=number))
    recordings = find_recordings([tmp_path / "data"])
    found = make_samples(bundle, recordings, tmp_path / "out", SETTINGS, ["original", "fine"])
    keys = ["s/take", "s/take#0", "s/take#0#1"]
    for kind, index in (("original", None), ("fine", 0)):
        assert [one.source_key for one in found[kind]] == keys
        assert {one.sample_index for one in found[kind]} == {index}
    assert len({one.path for one in (*found["original"], *found["fine"])}) == 6


def test_recordings_of_a_suitable_length(folder, recordings):
    assert [one.key for one in usable(recordings, 1.0, 2.0)] == ["anna/one", "anna/two", "bert/broken"]
    unseen = find_recordings([folder], unseen=True)
    assert [one.key for one in choose_recordings(unseen, min_seconds=2, max_recordings=1)] == ["bert/one"]
    heldout = {one.speaker for one in choose_recordings(recordings, "heldout", min_seconds=0.1)}
    train = {one.speaker for one in choose_recordings(recordings, "train", min_seconds=0.1)}
    assert heldout | train == {"anna", "bert"} and not heldout & train
    (folder / "bert" / "broken.wav").rename(folder / "broken")
    try:
        readable = find_recordings([folder], unseen=True)
        with pytest.raises(UserError, match="none of 4 heldout recordings is 30 to 40 s long"):
            choose_recordings(readable, min_seconds=30, max_seconds=40)
    finally:
        (folder / "broken").rename(folder / "bert" / "broken.wav")


def test_the_command(folder, tmp_path, capsys):
    export_bundle(tiny_tokenizers(), tmp_path / "system")
    arguments = ["--data", str(folder), "--unseen", "--min_seconds", "0.5"]
    arguments += ["--bundle", str(tmp_path / "system")]
    kinds = ["--kinds", "original, reconstruction", "--output", str(tmp_path / "out"), "--json", "-"]
    assert cli.main(["eval", "samples", *arguments, *kinds]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["original"], printed["reconstruction"], printed["counts"]["recordings"]) == (4, 4, 5)
    assert len(printed["notes"]) == 1 and "broken.wav" in printed["notes"][0]
    assert cli.main(["eval", "samples", *arguments, *kinds, "--seed", "1"]) == 2
    assert "choose another --output" in capsys.readouterr().err
