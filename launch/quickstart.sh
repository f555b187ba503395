#!/usr/bin/env bash
# Continues a spoken prompt with the bundle that ships with the repository.
#
#   ./launch/quickstart.sh                        the prompt of the repository
#   ./launch/quickstart.sh --prompt my.wav        your own recording
#   ./launch/quickstart.sh --seconds 6 --seed 3   any flag of `audiolm generate`
#
# Needs Python 3.11 or newer and nothing else: the first run makes .venv and installs the package into it. Writes
# out/continuation.wav and out/continuation.html at the root of the repository.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
  sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  exit 0
fi

make_environment core "$ROOT"
exec "$VENV/bin/python" -m audiolm_jax.cli generate --mode continuation --prompt "$ROOT/audiolm_jax/bundles/small/prompt.wav" \
  --output "$ROOT/out/continuation.wav" --page "$ROOT/out/continuation.html" "$@"
