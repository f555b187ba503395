"""Commands look at their outputs before they work, never replace an input, and lose nothing that they made."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiolm_jax.audio import Waveform, read_audio, write_audio
from audiolm_jax.bundle import Bundle, export_bundle
from audiolm_jax.cli import arguments, command_line, models
from audiolm_jax.evaluation.report import report
from audiolm_jax.files import outputs
from audiolm_jax.generation.pipeline import AudioLM, Request
from audiolm_jax.page.listening_page import generation_page
from audiolm_jax.pretrained.files.imported_model import read_huggingface, write_imported
from tests.cli.cli_test import ROOT, assert_one_line_mistake, babble, run
from tests.tiny_system import tiny_system, tiny_tokenizers

GOLDEN = ROOT / "tests" / "golden" / "pretrained"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of a tiny system, its tokenizers and an imported codec."""
    folder = tmp_path_factory.mktemp("made")
    tokenizers = export_bundle(tiny_tokenizers(), folder / "tokenizers")
    export_bundle(tiny_system(tokenizers), folder / "system")
    write_imported(read_huggingface(GOLDEN / "dac"), folder / "dac")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, made):
    """A working folder with copies of these, and recordings."""
    for folder in made.iterdir():
        shutil.copytree(folder, tmp_path / folder.name)
    shutil.copytree(GOLDEN / "dac", tmp_path / "published")
    for path in ("a.wav", "b.wav", "speech/ann/a.wav"):
        write_audio(tmp_path / path, Waveform(babble(0.6), 16_000))
    (tmp_path / "items.item").write_text("#file onset offset #phone prev-phone next-phone speaker\n")
    (tmp_path / "my.gin").write_text("include 'gin/exp/codec_small.gin'\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 KB, mounted in the working folder as `disk`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "line",
    [
        "codec a.wav a.wav --bundle system",
        "codec a.wav ./speech/../a.wav --bundle system",
        "codec a.wav c.wav --json c.wav --bundle system",
        "codec a.wav c.wav --json a.wav --bundle system",
        "generate --prompt a.wav --output a.wav --bundle system",
        "generate --prompt a.wav --output system/prompt.wav --bundle system",
        "generate --prompt a.wav --output c.wav --page a.wav --bundle system",
        "generate --prompt a.wav --output c.wav --page c.wav --bundle system",
        "info system --json system/manifest.json",
        "check my.gin --json my.gin",
        "import published --output published --overwrite",
        "import published --output system --overwrite",
        "export dac --output dac --overwrite",
        "export dac --output system --overwrite",
        "bundle tokenizers --tokenizers tokenizers --semantic w --overwrite",
        "bundle dac --codec dac --kmeans k --name n --overwrite",
        "tokenize --input speech --output system --bundle system --engine jax",
        "tokenize --input speech --output tokenizers --bundle system --engine jax",
        "eval visqol --reference a.wav --degraded b.wav --json b.wav",
        "eval abx --item items.item --audio speech --json items.item",
        "eval samples --data speech --output speech --bundle system",
        "eval samples --data speech --output speech/samples --bundle system",
        "eval all --data speech --output system --bundle system",
        "eval swuggy --gold a.wav --wavs speech --output a.wav --bundle system",
        "eval codec --data speech --json speech/ann/a.wav --bundle system",
        "eval codec --data speech --asr pocketsphinx --output system --bundle system",
    ],
)
def test_no_command_writes_onto_what_it_reads(capsys, here, line):
    (here / "system" / "prompt.wav").write_bytes((here / "a.wav").read_bytes())
    before = contents(here)
    assert_one_line_mistake(*run(capsys, *line.split()))
    assert contents(here) == before


@pytest.mark.parametrize(
    "line",
    [
        "codec a.wav disk/new/a.wav",
        "codec a.wav c.wav --json disk/a.json",
        "generate --prompt a.wav --output disk/new/a.wav",
        "generate --prompt a.wav --output c.wav --page disk/a.html",
        "generate --prompt a.wav --output c.wav --json disk/a.json",
        "import published --output disk/new",
        "export dac --output disk/new",
        "bundle disk/new --codec dac --kmeans k --name n",
        "tokenize --input speech --output disk/new --engine jax",
        "info --json disk/a.json",
        "check my.gin --json disk/a.json",
        "eval all --data speech --output disk/new",
        "eval samples --data speech --output disk/new",
        "eval wer --data speech --output disk/new",
        "eval codec --data speech --asr pocketsphinx --output disk/new",
        "eval speaker --data speech --classifier system --output disk/new",
        "eval detector --data speech --output disk/new",
        "eval ladder --data speech --output disk/new",
        "eval sblimp --gold g --wavs speech --output disk/scores",
        "eval visqol --reference a.wav --degraded b.wav --json disk/a.json",
    ],
)
@pytest.mark.parametrize("disk_is", ["read-only", "full"])
def test_a_disk_that_refuses_is_told_before_the_work(capsys, here, monkeypatch, disk, line, disk_is):
    def loaded(*_, **__):
        raise AssertionError("the work has begun")

    for work in ("audiolm_jax.audio.read_audio", "audiolm_jax.pretrained.files.imported_model.read_imported"):
        monkeypatch.setattr(work, loaded)
    monkeypatch.setattr(Bundle, "load", loaded)
    if disk_is == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    else:
        (disk / "ballast").write_bytes(bytes(64 * 1024))
    words = "Read-only file system" if disk_is == "read-only" else "No space left on device"
    assert_one_line_mistake(*run(capsys, *line.split()), "cannot write", "disk/", words)


def test_a_sound_that_finds_no_room_in_the_end_is_kept_elsewhere(capsys, here, monkeypatch, disk):
    kept = here / "kept"
    kept.mkdir()
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(kept))
    generations = AudioLM.generations

    def while_the_disk_fills(self, *args, **kwargs):
        (disk / "ballast").write_bytes(bytes(60 * 1024))
        return generations(self, *args, **kwargs)

    monkeypatch.setattr(AudioLM, "generations", while_the_disk_fills)
    argv = ["generate", "--bundle", "system", "--prompt", "a.wav", "--seconds", "0.6", "--output", "disk/new/out.wav"]
    code, out, err = run(capsys, *argv, "--page", "out.html")
    told = err.splitlines()[-1]
    assert code == 2 and out == "" and "disk/new/out.wav" in told and "No space left on device" in told
    (found,) = kept.rglob("out.wav")
    assert str(found) in told and read_audio(found).seconds == pytest.approx(1.2)
    assert "out.html: open it" in err and (here / "out.html").exists()
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_too_little_room_for_a_sound_is_told_before_it_is_generated(capsys, here, disk):
    argv = ["generate", "--bundle", "system", "--prompt", "a.wav", "--seconds", "60", "--output", "disk/out.wav"]
    assert_one_line_mistake(*run(capsys, *argv), "disk/out.wav", "1.94 MB")


def test_a_measurement_that_finds_no_room_is_kept_elsewhere(capsys, here, monkeypatch, disk):
    kept = here / "kept"
    kept.mkdir()
    monkeypatch.setattr(outputs.tempfile, "tempdir", str(kept))
    plan = report.run_plan

    def while_the_disk_fills(*args):
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free))
        return plan(*args)

    monkeypatch.setattr(report, "run_plan", while_the_disk_fills)
    argv = ["eval", "all", "--bundle", "system", "--data", "speech", "--heldout_speakers", "0"]
    code, _, err = run(capsys, *argv, "--only", "perplexity", "--output", "disk/report")
    told = err.splitlines()[-1]
    (found,) = kept.rglob("perplexity.json")
    assert code == 2 and "disk/report/measurements/perplexity.json" in told and str(found) in told


def test_a_full_stdout_is_one_line():
    command = [sys.executable, "-m", "audiolm_jax.cli"]
    for more in (["info"], ["info", "--json", "-"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, *more], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "stdout" in done.stderr and "No space left on device" in done.stderr


def test_an_export_onto_a_full_disk_leaves_the_old_model(capsys, here, disk):
    subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
    assert run(capsys, "export", "dac", "--output", "disk/model")[0] == 0
    before = contents(disk)
    (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 8 * 1024))
    argv = ["export", "dac", "--output", "disk/model", "--overwrite"]
    assert_one_line_mistake(*run(capsys, *argv), "disk/model", "No space left on device")
    (disk / "ballast").unlink()
    assert contents(disk) == before


def test_a_file_of_scores_may_lie_among_the_recordings_and_is_gone_on_with(capsys, here):
    (here / "gold.csv").write_text("filename,id,voice,frequency,correct\na,1,x,0,1\nb,1,x,,0\n")
    shutil.copy(here / "b.wav", here / "speech")
    argv = ["eval", "swuggy", "--gold", "gold.csv", "--wavs", "speech", "--bundle", "system"]
    argv += ["--output", "speech/scores", "--json", "-"]
    code, first, err = run(capsys, *argv)
    assert code == 0, err
    assert run(capsys, *argv)[:2] == (0, first)
    (here / "speech" / "scores").write_text("not ours")
    assert_one_line_mistake(*run(capsys, *argv), "speech/scores", "no scores of ours")
    assert (here / "speech" / "scores").read_text() == "not ours"


def test_a_system_may_be_replaced_by_itself_with_classifiers(here):
    args = argparse.Namespace(output="system", system="system", tokenizers=None, prompt=None, overwrite=True)
    models._check_bundle_output(args)


def test_a_name_that_is_no_text_can_be_shown_on_a_page(here):
    bundle = Bundle.load("system")
    lm = AudioLM(bundle)
    request = lm.with_defaults(Request(read_audio("a.wav"), prompt_seconds=0.4, seconds=0.4))
    page = generation_page(bundle, request, lm.generations(request), "caf\udce9.wav", 1.0)
    assert b"Continuation of caf?.wav" in page


def path_arguments():
    """(command, name) of every argument whose metavar says that it is a file or a folder."""
    kinds = {"DIR", "FILE", "PATH", "IN", "OUT", "HTML", "SOURCE", "EXP"}
    found = []

    def walk(parser, command):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    walk(child, f"{command} {name}".strip())
            elif action.metavar in kinds:
                found.append((command, action.dest))

    walk(command_line.parser(), "")
    return found


def test_every_path_argument_is_known_as_input_or_output():
    found = path_arguments()
    assert len(found) > 60
    for command, name in found:
        assert (name in arguments.INPUTS) != (name in arguments.OUTPUTS), (command, name)


LONG = "n" * 5000


@pytest.mark.parametrize(
    "line",
    [
        f"info {LONG}",
        f"check {LONG} --topology cpu:1",
        f"train {LONG} --workdir w",
        f"train codec_small --workdir {LONG} --data speech",
        f"train codec_small --workdir w --data {LONG}",
        f"train codec_small --workdir w --data speech --set {LONG}=1",
        f"check codec_small --topology {LONG}",
        f"check my.gin --json {LONG}",
        f"codec {LONG} out.wav",
        f"codec a.wav {LONG}.wav",
        f"codec a.wav out.wav --bundle {LONG}",
        f"generate --prompt {LONG} --output out.wav",
        f"generate --prompt a.wav --output {LONG}.wav",
        f"generate --prompt a.wav --output out.wav --page {LONG}",
        f"generate --prompt a.wav --output out.wav --mode {LONG}",
        f"import {LONG} --output out",
        f"import published --output {LONG}",
        f"import {GOLDEN / 'hubert'} --output out --kmeans {LONG} --layer 1",
        f"export {LONG} --output out",
        f"export dac --output {LONG}",
        f"bundle {LONG} --codec dac --kmeans k --name n",
        f"bundle out --codec {LONG} --kmeans k --name n",
        f"bundle out --tokenizers {LONG} --semantic w",
        f"bundle out --tokenizers tokenizers --semantic w --prompt {LONG}",
        f"bundle out --tokenizers tokenizers --semantic {LONG}",
        f"tokenize --input {LONG} --output out --engine jax",
        f"tokenize --input speech --output {LONG} --engine jax",
        f"tokenize --input speech --output out --engine jax --corpus {LONG}",
        f"eval all --data {LONG} --output out --bundle system",
        f"eval all --data speech --output {LONG} --bundle system",
        f"eval abx --item {LONG} --audio speech --bundle system",
        f"eval abx --item items.item --features {LONG} --feature_seconds 0.02",
        f"eval semantic --w2v_bert {LONG} --item items.item --data speech --output out",
        f"eval visqol --reference {LONG} --degraded b.wav",
        f"eval codec --data {LONG} --bundle system",
        f"eval wer --audio {LONG}",
        f"eval speaker --reference a.wav --compare {LONG} --classifier {LONG}",
        f"eval detector {LONG} --detector {LONG}",
        f"eval perplexity --tokens {LONG} --bundle system",
        f"eval fad --reference {LONG} --generated speech",
        f"eval swuggy --gold {LONG} --scores a.wav",
        f"eval samples --data {LONG} --output out --bundle system",
        f"eval ladder --data speech --output out --classifier {LONG} --bundle system",
        LONG,
    ],
)
def test_a_name_of_5000_characters_is_one_short_line(capsys, here, line):
    code, out, err = run(capsys, *line.split())
    assert_one_line_mistake(code, out, err, "nnn")
    assert len(err) < 1500 and not Path("out").exists()
