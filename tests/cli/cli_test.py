"""The command line: help, exit codes, and one line for every mistake."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_jax import cli
from audiolm_jax.audio import Waveform, encode_audio, read_audio, write_audio
from audiolm_jax.bundle import export_bundle
from tests.tiny_system import tiny_system, tiny_tokenizers

ROOT = Path(__file__).parents[2]
# What `audiolm info` calls first.
FIRST_OF_INFO = "audiolm_jax.pretrained.files.imported_model.is_imported"
COMMANDS = ("train", "check", "tokenize", "generate", "codec", "import", "export", "bundle", "info", "completion")


def run(capsys, *argv):
    """(exit code, stdout, stderr) of the command, in this process."""
    try:
        code = cli.main([str(argument) for argument in argv])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_process(*argv):
    command = [sys.executable, "-m", "audiolm_jax.cli", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def assert_one_line_mistake(code, out, err, *words):
    assert code == 2 and out == ""
    assert err.startswith("audiolm") and err.endswith("\n") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def babble(seconds, rate_hz=16_000):
    """A tone with a moving pitch, float32[T]."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * (200 + 80 * np.sin(5 * times)) * times)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The folder of a tiny whole system."""
    folder = tmp_path_factory.mktemp("bundles")
    tokenizers = export_bundle(tiny_tokenizers(), folder / "tokenizers")
    prompt = encode_audio(Waveform(babble(1.0), 16_000))
    return export_bundle(dataclasses.replace(tiny_system(tokenizers), prompt=prompt), folder / "system").path


@pytest.fixture
def prompt(tmp_path):
    path = tmp_path / "prompt.wav"
    write_audio(path, Waveform(babble(0.6), 16_000))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(capsys, command):
    code, out, err = run(capsys, command, "--help")
    assert code == 0 and err == ""
    assert f"example:\n  audiolm {command} " in out


@pytest.mark.parametrize("command", ["train", "check"])
def test_help_after_an_experiment_lists_its_macros(capsys, command):
    code, out, err = run(capsys, command, "codec_small", "--set", "STEPS=7", "--help")
    assert code == 0 and err == "" and out.startswith("A small SoundStream on a folder of speech")
    lines = out.splitlines()
    assert "  STEPS = 7                         [updates] of the whole run, counted from its beginning" in lines
    assert "  MUON_MATRICES = @muon.convolution_matrices" in lines and max(map(len, lines)) <= 120
    assert f"audiolm {command} --help" in lines[-1]
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and "EXP --help" in " ".join(out.split())
    assert_one_line_mistake(*run(capsys, command, "codec_smal", "--help"), "codec_smal", "codec_small")
    assert_one_line_mistake(*run(capsys, command, "codec_small", "--set", "STEPS=x", "--help"), "STEPS", "whole number")


def test_top_level_help_and_version(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(command in out for command in COMMANDS)
    code, out, _ = run(capsys, "--version")
    assert code == 0 and out.startswith("audiolm_jax ")


@pytest.mark.parametrize(
    "argv,words",
    [
        ([], ["COMMAND"]),
        (["sing"], ["sing"]),
        (["train"], ["EXP", "--workdir"]),
        (["train", "codec_smal", "--workdir", "w"], ["codec_smal", "codec_small"]),
        (["train", "codec_small", "--workdir", "w"], ["--data"]),
        (["train", "codec_small", "--workdir", "w", "--data", "nowhere"], ["nowhere"]),
        (["train", "codec_small", "--workdir", "w", "--data", "tests", "--set", "STEP=3"], ["STEP", "STEPS"]),
        (["train", "codec_small", "--workdir", "w", "--data", "tests", "--set", "STEPS"], ["MACRO=VALUE"]),
        (["train", "codec_small", "--workdir", "w", "--data", "tests", "--set", "BATCH_SIZE=two"], ["BATCH_SIZE"]),
        (["train", "codec_small", "--workdir", "w", "--data", "tests", "--set", "CROP_SAMPLES=1"], ["CROP_SAMPLES"]),
        (["train", "codec_small", "--workdir", "w", "--bogus"], ["--bogus", "audiolm train --help"]),
        (["check"], ["EXP"]),
        (["check", "coarse_small", "--topology", "v4:3x3x3"], ["v4:3x3x3", "v4:2x2x1", "v6e", "cpu:N"]),
        (["check", "coarse_small", "--slices", "0"], ["--slices", "at least 1"]),
        (["codec", "a.wav", "b.wav", "--num_quantizers", "0"], ["--num_quantizers", "at least 1"]),
        (["codec", "a.wav", "b.wav", "--num_quantizers", "many"], ["--num_quantizers", "whole number"]),
        (["codec", "a.wav", "b.wav", "--num_q", "3"], ["--num_q"]),
        (["codec", "a.wav", "b.wav", "--bundle", "nowhere"], ["nowhere", "--bundle"]),
        (["info", "nowhere"], ["nowhere"]),
        (["tokenize", "--input", "a"], ["--output"]),
        (["eval", "all", "--data", "a"], ["--output"]),
        (["eval", "all", "--data", "a", "--output", "b", "--bundle", "nowhere"], ["nowhere"]),
        (["eval", "all", "--data", "a", "--output", "b", "--only", "wer,mos"], ["mos", "perplexity"]),
        (["eval", "all", "--data", "a", "--output", "b", "--item", "c.item"], ["--item", "c.item"]),
        (["eval", "all", "--data", "a", "--output", "b", "--swuggy", "tests"], ["--swuggy", "gold.csv"]),
        (["eval", "all", "--data", "a", "--output", "b", "--classifier", "c"], ["--classifier", "c"]),
        (["eval", "all", "--data", "a", "--output", "b"], ["a", "folder"]),
        (["tokenize", "--input", "a", "--output", "b", "--heldout_speakers", "-1"], ["--heldout_speakers"]),
        (["tokenize", "--input", "a", "--output", "b", "--corpus", "radio"], ["radio", "libri_light"]),
        (["tokenize", "--input", "a", "--output", "b", "--engine", "jax", "--runner=X"], ["--runner=X", "beam"]),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path, argv, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    write_audio(tmp_path / "tests" / "a.wav", Waveform(np.zeros(100), 16_000))
    assert_one_line_mistake(*run(capsys, *argv), *words)
    assert not (tmp_path / "w").exists()


def test_a_process_ends_with_the_code_and_the_line_alone():
    done = run_process("info", "nowhere")
    assert_one_line_mistake(done.returncode, done.stdout, done.stderr, "nowhere")


def test_interrupt_and_disk_errors_are_told(capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    def full(*_):
        raise OSError(28, "No space left on device", "work/model")

    monkeypatch.setattr(FIRST_OF_INFO, stopped)
    assert run(capsys, "info")[0] == 130
    monkeypatch.setattr(FIRST_OF_INFO, full)
    assert_one_line_mistake(*run(capsys, "info"), "work/model", "No space left on device")


def test_missing_extra_names_what_to_install(capsys, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam.options")

    monkeypatch.setattr(FIRST_OF_INFO, missing)
    assert_one_line_mistake(*run(capsys, "info"), "pip install 'audiolm_jax[train]'")


def test_errors_of_the_program_are_not_hidden(monkeypatch):
    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(FIRST_OF_INFO, broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["info"])


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--json", "-"]])
def test_closed_pipe_ends_quietly(arguments):
    command = [sys.executable, "-m", "audiolm_jax.cli", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == ""


def test_generate_continues_a_prompt(capsys, tmp_path, bundle, prompt):
    argv = ["generate", "--bundle", bundle, "--prompt", prompt, "--prompt_seconds", 0.4, "--seconds", 0.6]
    out, page = tmp_path / "new" / "a.wav", tmp_path / "new" / "a.html"
    code, stdout, stderr = run(capsys, *argv, "--seed", 1, "--output", out, "--page", page, "--json", "-")
    assert code == 0, stderr
    figures = json.loads(stdout)
    assert figures["files"] == [str(out)] and figures["prompt_seconds"] == 0.4 and figures["seconds"] == 1.0
    assert read_audio(out).seconds == 1.0
    assert "CC0-1.0" in soundfile.SoundFile(out).copyright and "CC0-1.0" in stderr
    text = page.read_text(encoding="utf-8")
    assert "Continuation of prompt.wav" in text and text.count("<article") == 2 and "Semantic tokens" in text

    again, other = tmp_path / "again.wav", tmp_path / "other.wav"
    assert run(capsys, *argv, "--seed", 1, "--output", again)[0] == 0
    assert run(capsys, *argv, "--seed", 2, "--output", other)[0] == 0
    np.testing.assert_array_equal(read_audio(again).samples, read_audio(out).samples)
    assert np.abs(read_audio(other).samples - read_audio(out).samples).max() > 0


def test_generate_in_a_new_voice_and_without_prompt_and_extras(capsys, tmp_path, bundle, prompt):
    out, page = tmp_path / "v.flac", tmp_path / "v.html"
    argv = ["generate", "--bundle", bundle, "--output", out, "--page", page]
    code, _, stderr = run(capsys, *argv, "--mode", "acoustic", "--prompt", prompt, "--num_samples", 2)
    assert code == 0, stderr
    assert [read_audio(tmp_path / name).seconds for name in ("v-1.flac", "v-2.flac")] == [0.6, 0.6]
    assert "New voice 2" in page.read_text(encoding="utf-8")

    # Without a prompt, in a process where nothing of the extras can be imported.
    hidden = "tensorflow seqio apache_beam tensorflow_datasets tensorboard visqol jiwer pocketsphinx matplotlib".split()
    argv = [*map(str, argv), "--mode", "unconditional", "--seconds", "0.5", "--temperature", "0.9"]
    code = (
        f"import sys\nfor name in {hidden!r}: sys.modules[name] = None\n"
        f"from audiolm_jax import cli\nsys.exit(cli.main({argv!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    assert read_audio(out).seconds == 0.5
    assert page.read_text(encoding="utf-8").count("<article") == 1


@pytest.mark.parametrize(
    "argv,words",
    [
        (["--mode", "unconditional", "--prompt", "prompt.wav"], ["unconditional", "prompt"]),
        ([], ["--prompt"]),
        (["--mode", "sing"], ["--mode", "continuation"]),
        (["--prompt", "missing.mp3"], ["missing.mp3", "does not exist"]),
        (["--prompt", "empty.wav"], ["empty.wav", "empty"]),
        (["--prompt", "text.wav"], ["text.wav", "not audio"]),
        (["--prompt", "cut.wav"], ["cut.wav", "cut short"]),
        (["--prompt", "prompt.wav", "--seconds", "0"], ["--seconds"]),
        (["--prompt", "prompt.wav", "--seconds", "nan"], ["--seconds"]),
        (["--prompt", "prompt.wav", "--temperature", "1,2"], ["--temperature", "three"]),
        (["--prompt", "prompt.wav", "--temperature", "-1"], ["--temperature"]),
        (["--prompt", "prompt.wav", "--top_k", "0.5"], ["--top_k", "whole"]),
        (["--prompt", "prompt.wav", "--top_p", "2"], ["top_p"]),
        (["--prompt", "prompt.wav", "--output", "a.mp3"], ["a.mp3", ".wav or .flac"]),
        (["--prompt", "prompt.wav", "--output", "prompt.wav/a.wav"], ["prompt.wav"]),
        (["--prompt", "prompt.wav", "--num_samples", "0"], ["--num_samples"]),
        (["--prompt", "prompt.wav", "--seed", "-1"], ["--seed"]),
    ],
)
def test_generate_refuses_in_one_line(capsys, monkeypatch, prompt, bundle, argv, words):
    monkeypatch.chdir(prompt.parent)
    Path("empty.wav").write_bytes(b"")
    Path("text.wav").write_text("some words\n" * 100)
    Path("cut.wav").write_bytes(prompt.read_bytes()[:5_000])
    output = [] if "--output" in argv else ["--output", "out.wav"]
    assert_one_line_mistake(*run(capsys, "generate", "--bundle", bundle, *output, *argv), *words)
    assert not Path("out.wav").exists()


def test_codec_writes_what_it_decodes(capsys, tmp_path, bundle):
    stereo = tmp_path / "stereo.mp3"
    soundfile.write(stereo, np.stack([babble(1.0, 44_100)] * 2, axis=1), 44_100)
    out, figures_path = tmp_path / "out.wav", tmp_path / "figures.json"
    argv = ["codec", stereo, out, "--bundle", bundle, "--num_quantizers", 2]
    code, stdout, stderr = run(capsys, *argv, "--json", figures_path)
    assert code == 0 and stdout == "", stderr
    figures = json.loads(figures_path.read_text())
    # 50 frames/s, 2 levels of 4 bits.
    assert figures["bitrate_bps"] == 400 and figures["num_quantizers"] == 2 and figures["si_sdr_db"] < 100
    assert "0.4 kbps" in stderr and "SI-SDR" in stderr
    assert read_audio(out).seconds == figures["seconds"] == pytest.approx(1.0, abs=0.1)
    assert_one_line_mistake(*run(capsys, *argv[:-1], 5), "--num_quantizers", "4 levels")
    code, stdout, _ = run(capsys, *argv, "--json", "-")
    assert code == 0 and json.loads(stdout)["bitrate_bps"] == 400


def test_codec_takes_silence(capsys, tmp_path, bundle):
    path = tmp_path / "silence.wav"
    write_audio(path, Waveform(np.zeros(8_000), 16_000))
    code, _, stderr = run(capsys, "codec", path, tmp_path / "out.wav", "--bundle", bundle)
    assert code == 0 and "silent" in stderr


def test_info_tells_in_words_and_as_json(capsys, bundle):
    code, out, _ = run(capsys, "info", bundle)
    assert code == 0 and "tiny" in out and "CC0-1.0" in out
    code, out, _ = run(capsys, "info", bundle, "--json", "-")
    facts = json.loads(out)
    assert code == 0 and facts["licence"] == "CC0-1.0" and facts["stages"] == ["semantic", "coarse", "fine"]


@pytest.mark.parametrize(
    "argv,words",
    [
        ([], ["--codec", "--tokenizers"]),
        (["--codec", "a", "--tokenizers", "b"], ["--codec", "--tokenizers"]),
        (["--codec", "a"], ["--kmeans", "--licence"]),
        (["--codec", "a", "--kmeans", "b", "--name", "n", "--licence", "l", "--fine", "d"], ["--tokenizers"]),
        (["--codec", "a", "--kmeans", "b", "--name", "n", "--licence", "l"], ["a"]),
        (["--tokenizers", "a"], ["--semantic"]),
        (["--tokenizers", "a", "--fine", "b", "--licence", "c"], ["--licence"]),
        (["--tokenizers", "a", "--fine", "b"], ["a"]),
    ],
)
def test_bundle_refuses_in_one_line(capsys, monkeypatch, tmp_path, argv, words):
    monkeypatch.chdir(tmp_path)
    assert_one_line_mistake(*run(capsys, "bundle", "out", *argv), *words)


def test_tokenize_writes_records_and_lists_bad_files(capsys, tmp_path, bundle):
    for speaker in ("ann", "ben"):
        (tmp_path / "speech" / speaker).mkdir(parents=True)
        write_audio(tmp_path / "speech" / speaker / "a.wav", Waveform(babble(0.5), 16_000))
    (tmp_path / "speech" / "ann" / "bad.wav").write_text("no sound")
    argv = ["tokenize", "--input", tmp_path / "speech", "--output", tmp_path / "tokens", "--bundle", bundle]
    code, _, stderr = run(capsys, *argv, "--heldout_speakers", 1)
    assert code == 0 and "bad.wav" in stderr and "times real time" in stderr, stderr
    manifest = json.loads((tmp_path / "tokens" / "manifest.json").read_text())
    assert sum(manifest["summary"]["records"].values()) == 2
