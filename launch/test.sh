#!/usr/bin/env bash
# Runs ruff and every test, on CPU and without network, after making .venv if needed.
#
#   ./launch/test.sh                              everything
#   ./launch/test.sh tests/audio_test.py -k mp3   any arguments of pytest
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

make_environment test "${ROOT}[train,eval,test]"
cd "$ROOT"
"$VENV/bin/python" -m ruff check .
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}" TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
# One file stays in one process, so that what a file compiles or trains once serves all of its tests.
exec "$VENV/bin/python" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 15 "$@"
