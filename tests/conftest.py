"""What compiling costs: XLA optimises little in tests, and compiles a program once for all of a worker's processes.

Most of the time of the tests is compilation, and what they compile does not run for long. With

    XLA_FLAGS= JAX_ENABLE_COMPILATION_CACHE=false ./launch/test.sh

they run what users run; either setting alone can be given too.
"""

import os
import sys
import tempfile

import pytest

_CACHE = tempfile.TemporaryDirectory(prefix="audiolm_jax_compiled_", ignore_cleanup_errors=True)

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

# Files that take longest, longest first. A worker takes the next file when it is done with one, so the last ones are
# to be short.
_LONGEST = (
    "multi_device/multi_device_test.py",
    "semantic/w2v_bert_test.py",
    "codec/learner_test.py",
    "pretrained/journey_test.py",
    "multi_host/multi_host_test.py",
    "tests/journey_test.py",
    "codec/chunked_test.py",
    "training/kill_soak_test.py",
    "training/full_disk_test.py",
    "check/check_test.py",
)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_go():
    """Forgets the compiled programs of a file when its tests are done.

    Each keeps memory mapped, some thousand times for a file, and Linux gives a process 65530 mappings; with one more
    the compiler dies.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def pytest_collection_modifyitems(items):
    """Puts the longest files first; the order within a file stays."""

    def place(item):
        return next((at for at, name in enumerate(_LONGEST) if item.path.as_posix().endswith(name)), len(_LONGEST))

    items.sort(key=place)


def pytest_unconfigure():
    """Removes the compiled programs; the processes of pytest-xdist end without doing so."""
    _CACHE.cleanup()
