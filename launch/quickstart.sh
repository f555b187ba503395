#!/usr/bin/env bash
# Continues a spoken prompt with the bundle that ships with the repository.
#
#   ./launch/quickstart.sh                        the prompt of the repository
#   ./launch/quickstart.sh --prompt my.wav        your own recording
#   ./launch/quickstart.sh --seconds 6 --seed 3   any flag of `audiolm generate`
#
# Needs Python 3.11 or newer and nothing else: the first run makes .venv and installs the package into it. Writes
# out/continuation.wav and out/continuation.html at the root of the repository.
# shellcheck disable=SC2034  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
answer_help "${BASH_SOURCE[0]}" "$@"

make_environment core "$ROOT"
exec "$VENV/bin/python" -m audiolm_jax.cli generate --mode continuation --prompt "$ROOT/audiolm_jax/bundles/small/prompt.wav" \
  --output "$ROOT/out/continuation.wav" --page "$ROOT/out/continuation.html" "$@"
