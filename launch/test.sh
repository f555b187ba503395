#!/usr/bin/env bash
# Runs ruff and every test, on CPU and without network, after making .venv if needed.
#
#   ./launch/test.sh                              everything
#   ./launch/test.sh tests/audio -k mp3           any arguments of pytest
# shellcheck disable=SC2034  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting JAX_PLATFORMS cpu "what the tests run on"
setting TF_CPP_MIN_LOG_LEVEL 2 "from which level on XLA and TensorFlow tell what they do: 0 all, 3 errors alone"
setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
answer_help "${BASH_SOURCE[0]}" "$@"

make_environment test "${ROOT}[train,eval,whisper,midi,benchmarks,test]"
cd "$ROOT"
"$VENV/bin/python" -m ruff check .
export JAX_PLATFORMS TF_CPP_MIN_LOG_LEVEL
# One file stays in one process, so that what a file compiles or trains once serves all of its tests.
exec "$VENV/bin/python" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 15 "$@"
