"""What a command imports before it knows that there is work: names of modules, as time is not the same twice.

JAX, Flax and TensorFlow take seconds to import, etils.epath as long as all the rest of `audiolm --help`.
"""

import json
import subprocess
import sys

import pytest

from audiolm_jax.audio import Waveform, write_audio
from tests.cli.cli_test import ROOT, babble

HEAVY = (
    "jax", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "seqio", "apache_beam", "grain", "librosa",
    "scipy", "numba", "etils.epath", "asyncio", "torch",
)  # fmt: skip
# Read by `generate` and `codec` before anything else: sound, without resampling.
SOUND = ("numpy", "soundfile")

# Every one of these ends before its work begins.
HELP = ["--help", "--version", "info --help", "codec --help", "eval --help", "eval all --help", "train --help"]
MISTAKES = [
    "",
    "sing",
    "info nowhere",
    "train nothing_of_this_name --workdir w --data speech",
    "check nothing_of_this_name",
    "codec a.wav b.wav --num_quantizers 0",
    "bundle out",
    "bundle out --codec a",
    "bundle out --tokenizers a",
    "bundle out --system a",
    "tokenize --input speech --output t --engine jax --runner=X",
    "generate --output x.wav",
    "eval abx --item a.item --features b",
    "eval semantic --w2v_bert w --item a.item --data speech --output l --clusters 1",
    "eval swuggy --gold gold.csv --scores s --output o",
    "eval codec --data speech --asr pocketsphinx",
    "eval perplexity",
    "eval wer",
    "eval words --data speech --vocabulary v --output o --kinds silence",
    "eval speaker",
    "eval speaker --reference a.wav",
    "eval detector",
]
MISTAKES_WITH_SOUND = [
    "generate --mode unconditional --output x.mp3",
    "generate --prompt nothing.wav --output x.wav",
    "generate --prompt a.wav --output nothing.wav/x.wav --page a.wav",
    "codec a.wav b.mp3",
    "codec nothing.wav b.wav",
]

_RUN_ALL = """
import contextlib, io, json, sys
lines, modules = json.loads(sys.argv[1]), json.loads(sys.argv[2])
from audiolm_jax import cli
for line in lines:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(line.split())
        except SystemExit as stopped:
            code = stopped.code
    found = [name for name in modules if name in sys.modules]
    print(json.dumps([line, code, err.getvalue().count("\\n"), found]))
"""


@pytest.fixture
def here(tmp_path):
    write_audio(tmp_path / "a.wav", Waveform(babble(0.2), 16_000))
    (tmp_path / "speech").mkdir()
    return tmp_path


def outcomes(lines, modules, folder):
    """(line, exit code, lines on stderr, which of `modules` are imported by then) of command lines in one process."""
    command = [sys.executable, "-c", _RUN_ALL, json.dumps(lines), json.dumps(modules)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_help_and_version_import_nothing_heavy(here):
    assert outcomes(HELP, [*HEAVY, *SOUND], here) == [(line, 0, 0, []) for line in HELP]


def test_mistakes_in_arguments_are_told_before_anything_heavy_is_imported(here):
    assert outcomes(MISTAKES, [*HEAVY, *SOUND], here) == [(line, 2, 1, []) for line in MISTAKES]


def test_mistakes_about_sound_import_what_reads_it_alone(here):
    assert outcomes(MISTAKES_WITH_SOUND, HEAVY, here) == [(line, 2, 1, []) for line in MISTAKES_WITH_SOUND]
    assert not any(path.suffix == ".wav" and path.name != "a.wav" for path in here.iterdir())


def test_info_imports_no_library_of_training_or_of_spectra(here):
    unneeded = sorted(set(HEAVY) - {"jax", "flax", "etils.epath", "asyncio"})
    assert outcomes(["info small"], unneeded, here) == [("info small", 0, 0, [])]


def test_what_generates_imports_no_library_of_training_or_of_spectra():
    names = ("generation.pipeline", "codec.chunked", "pretrained.loaded", "page.listening_page")
    unneeded = sorted(set(HEAVY) - {"jax", "flax", "etils.epath", "asyncio"})
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module('audiolm_jax.' + name)\n"
        f"print([name for name in {unneeded!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
