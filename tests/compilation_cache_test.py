"""What one command compiles, no later one compiles again; and a cache that cannot be used is not spoken of."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiolm_jax import cli, compilation_cache
from audiolm_jax.bundle import export_bundle
from tests.tiny_system import tiny_system, tiny_tokenizers

ROOT = Path(__file__).parents[1]
# Runs a command, then tells how many programs were asked of JAX's cache, found there, and not found there.
COUNTED = """
import json, sys
from audiolm_jax import cli
import jax
counts = {"compile_requests_use_cache": 0, "cache_hits": 0, "cache_misses": 0}
def count(event, **details):
    name = event.rpartition("/")[2]
    if name in counts:
        counts[name] += 1
jax.monitoring.register_event_listener(count)
code = cli.main(sys.argv[1:])
print(json.dumps(list(counts.values())))
sys.exit(code)
"""
# Compiles programs of some size, in a folder with a bound.
SHARING = """
import sys
from audiolm_jax import compilation_cache
compilation_cache.MOST_BYTES = int(sys.argv[2])
assert compilation_cache.set_up(folder=sys.argv[1])
import jax
for number in range(8):
    assert jax.jit(lambda x: x * number + jax.numpy.sin(x))(2.0) is not None
"""


def environment(**changes):
    """That of a user who has set nothing of the cache."""
    kept = {name: value for name, value in os.environ.items() if "_CACHE_" not in name and "COMPILATION" not in name}
    return kept | {"PYTHONPATH": str(ROOT)} | changes


def start(code, *argv, **changes):
    command = [sys.executable, "-c", code, *map(str, argv)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    )


def outputs(process):
    """stdout and stderr of a process that is to end well."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def recorded(monkeypatch):
    """What JAX would be told; nothing of it reaches the JAX of this process."""
    told = {}
    monkeypatch.setattr(compilation_cache, "_configure", told.update)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return told


def test_a_second_generate_compiles_nothing(tmp_path):
    bundle = export_bundle(tiny_system(export_bundle(tiny_tokenizers(), tmp_path / "tokenizers")), tmp_path / "bundle")
    requests = []
    for name in ("first", "second"):
        arguments = ["generate", "--mode", "unconditional", "--seconds", "0.3", "--bundle", bundle.path, "--seed", "3"]
        sound = tmp_path / f"{name}.wav"
        process = start(COUNTED, *arguments, "--output", sound, XDG_CACHE_HOME=str(tmp_path / "cache"))
        requests.append(json.loads(outputs(process)[0]))
    (asked, found, missed), (asked_again, found_again, missed_again) = requests
    assert missed > 10 and asked == found + missed
    assert asked_again == found_again == asked and missed_again == 0
    assert (tmp_path / "first.wav").read_bytes() == (tmp_path / "second.wav").read_bytes()
    folder = tmp_path / "cache" / "audiolm_jax" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700 and len(list(folder.glob("*-cache"))) == missed


def test_processes_share_a_small_folder(tmp_path):
    """So small that each removes what others have written."""
    processes = [start(SHARING, tmp_path / "compiled", 20_000) for _ in range(3)]
    for process in processes:
        assert outputs(process) == ("", "")
    programs = list((tmp_path / "compiled").glob("*-cache"))
    assert programs and sum(path.stat().st_size for path in programs) <= 20_000


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, recorded, variable):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    assert compilation_cache.set_up() is None
    assert recorded == {}


def test_a_disk_that_becomes_full_is_not_spoken_of(tmp_path):
    """The folder is gone when JAX comes to write into it."""
    folder = tmp_path / "compiled"
    code = SHARING.replace("import jax\n", f"import jax, shutil\nshutil.rmtree({str(folder)!r})\n")
    code = code.replace("for number", f"open({str(folder)!r}, 'w').close()\nfor number")
    assert outputs(start(code, folder, 20_000)) == ("", "")


def test_what_was_cut_off_is_removed(tmp_path, recorded):
    for name in ("whole-cache", "whole-atime", "cut-cache", "empty-cache", "empty-atime", "evicted-atime"):
        (tmp_path / name).write_bytes(b"" if name == "empty-cache" else b"12345678")
    assert compilation_cache.set_up(folder=tmp_path) == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lockfile", "whole-atime", "whole-cache"]
    assert recorded["jax_compilation_cache_dir"] == str(tmp_path)
    assert recorded["jax_compilation_cache_max_size"] == compilation_cache.MOST_BYTES


def test_a_user_s_own_cache_stays(tmp_path, monkeypatch, recorded):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert compilation_cache.set_up() == tmp_path / "own" and recorded == {}
    assert compilation_cache.set_up(keep=False) is None
    assert recorded == {"jax_enable_compilation_cache": False}


def test_settings_reach_jax_before_and_after_it_is_imported(tmp_path):
    code = (
        "import sys\nfrom audiolm_jax import compilation_cache\n"
        "compilation_cache.set_up(folder=sys.argv[1])\nassert 'jax' not in sys.modules\nimport jax\n"
        "print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)\n"
        "compilation_cache.set_up(keep=False)\nprint(jax.config.jax_enable_compilation_cache)"
    )
    out, _ = outputs(start(code, tmp_path / "compiled"))
    assert out.split() == [str(tmp_path / "compiled"), str(compilation_cache.MOST_BYTES), "False"]


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["codec", "none.wav", "out.wav"], [True]),
        (["codec", "none.wav", "out.wav", "--no_compilation_cache"], [False]),
        (["eval", "visqol", "--reference", "none.wav", "--degraded", "none.wav", "--no_compilation_cache"], [False]),
        (["generate", "--prompt", "none.wav", "--output", "out.wav"], [True]),
        (["info", "none"], []),
    ],
)
def test_commands_that_compile_keep_what_they_compile(monkeypatch, tmp_path, argv, kept):
    told = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation_cache, "set_up", lambda keep: told.append(keep))
    try:
        assert cli.main(argv) == 2
    except SystemExit as stopped:
        assert stopped.code == 2
    assert told == kept
