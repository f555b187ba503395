"""Completion: bash runs the script that `audiolm completion` prints, zsh reads its own where it is installed."""

import argparse
import shutil
import subprocess

import pytest

from audiolm_jax.cli import command_line
from audiolm_jax.files.model_folders import shipped_bundles
from tests.cli.cli_test import assert_one_line_mistake, run


@pytest.fixture
def scripts(capsys, tmp_path, monkeypatch):
    """Folder of the two scripts, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for shell in ("bash", "zsh"):
        code, out, err = run(capsys, "completion", shell)
        assert code == 0 and err == ""
        (tmp_path / f"script.{shell}").write_text(out)
    return tmp_path


def completed(folder, *words):
    """What bash offers for the last of the words after `audiolm`."""
    code = (
        "source script.bash || exit 1\n"
        'COMP_WORDS=(audiolm "$@"); COMP_CWORD=$#\n'
        '_audiolm || exit 1\n'
        '[[ ${#COMPREPLY[@]} -eq 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--noprofile", "--norc", "-c", code, "bash", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def all_parsers():
    """(words of the command, parser) of every command and metric."""
    found = []

    def walk(words, parser):
        found.append((words, parser))
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    walk((*words, name), child)

    walk((), command_line.parser())
    return found


def test_bash_offers_every_command_and_every_flag(scripts):
    parsers = all_parsers()
    assert len(parsers) > 25
    for words, parser in parsers:
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert set(completed(scripts, *words, "-")) == flags, words
    assert completed(scripts, "") == [command.name for command in command_line.COMMANDS]
    assert completed(scripts, "eval", "sw") == ["swuggy"]
    assert completed(scripts, "eval", "abx", "--feature_") == ["--feature_seconds"]


def test_bash_offers_the_values_that_a_flag_takes(scripts):
    (scripts / "some speech").mkdir()
    (scripts / "mine.gin").touch()
    (scripts / "a b.wav").touch()
    assert completed(scripts, "generate", "--mode", "a") == ["acoustic"]
    assert completed(scripts, "generate", "--mode", "=", "a") == ["acoustic"]
    assert completed(scripts, "generate", "--mode", "=") == ["continuation", "acoustic", "unconditional"]
    assert completed(scripts, "eval", "fad", "--embedding", "") == ["log_mel", "semantic", "speaker"]
    assert completed(scripts, "completion", "") == ["bash", "zsh"]
    assert completed(scripts, "train", "codec_s") == ["codec_small"]
    assert completed(scripts, "train", "mi") == ["mine.gin"]
    assert completed(scripts, "train", "codec_small", "--data", "") == ["some speech"]
    assert completed(scripts, "info", "") == [*shipped_bundles(), "some speech"]
    assert completed(scripts, "codec", "--bundle", "") == [*shipped_bundles(), "some speech"]
    assert completed(scripts, "codec", "a") == ["a b.wav"]
    assert completed(scripts, "generate", "--seed", "") == []


def test_bash_takes_a_value_for_no_command(scripts):
    assert completed(scripts, "codec", "info", "eval", "--num") == ["--num_quantizers"]


def test_zsh_is_told_every_flag_and_reads_its_script(scripts):
    text = (scripts / "script.zsh").read_text()
    for words, parser in all_parsers():
        part = text.partition(f'    "{" ".join(words)}")\n')[2].partition("\n      ;;\n")[0]
        for action in parser._actions:
            assert all(f"{flag}[" in part for flag in action.option_strings), (words, action)
    if shutil.which("zsh"):
        subprocess.run(["zsh", "--no-rcs", "-n", scripts / "script.zsh"], check=True, timeout=60)


def test_an_unknown_shell_is_a_mistake(capsys):
    assert_one_line_mistake(*run(capsys, "completion", "fish"), "fish", "bash", "zsh")
