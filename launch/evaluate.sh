#!/usr/bin/env bash
# Measures a bundle by every metric and writes one report: out/report/report.html, report.md and report.json.
#
#   ./launch/evaluate.sh                            the bundle of the repository, on speech made by espeak-ng
#   ./launch/evaluate.sh --data SPEECH              your own recordings, one folder for each speaker
#   ./launch/evaluate.sh --bundle DIR --seed 1      any flag of `audiolm eval all`: --corpus and the others of the split
#                                                   as the bundle was trained, or --unseen for data it never heard
#   ./launch/evaluate.sh --asr models/whisper-base  words by Whisper (docs/evaluation.md says where it is)
#   QUICK= ./launch/evaluate.sh --data SPEECH       the paper's protocol in full, which takes hours
#
# Needs Python 3.11 or newer and nothing else: the first run makes .venv and installs the package into it. With opus-tools
# (apt-get install opus-tools) Opus stands beside the codec. Takes about 20 minutes on two cores. Stop it at any time; the
# same command goes on from there.
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting OUT "$ROOT/out" "folder for everything"
setting QUICK yes "fewer recordings and samples; empty for the paper's protocol in full"
setting VENV_PYTHON "" "an interpreter that has the package, in place of .venv"
setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
answer_help "${BASH_SOURCE[0]}" "$@"

# with_extra NAME EXTRA: an interpreter with an extra of the package.
with_extra() {
  [[ -n "$VENV_PYTHON" ]] || make_environment "$1" "${ROOT}[$2]"
  python="${VENV_PYTHON:-$VENV/bin/python}"
}

asr="" previous=""
for argument in "$@"; do
  [[ "$previous" != --asr ]] || asr="$argument"
  [[ "$argument" != --asr=* ]] || asr="${argument#--asr=}"
  previous="$argument"
done
# A Whisper model in CTranslate2's format is run by a package of its own.
if [[ -n "$asr" && -f "$asr/model.bin" ]]; then with_extra eval-whisper eval,whisper; else with_extra eval eval; fi
flags=(--bundle "$ROOT/audiolm_jax/bundles/small" --output "$OUT/report")
[[ -z "$QUICK" ]] || flags+=(--quick)
if [[ " $* " != *" --data "* && " $* " != *" --data="* ]]; then
  if [[ ! -f "$OUT/espeak/transcripts.tsv" ]]; then
    with_extra espeak espeak
    say "making speech of many voices with espeak-ng in $OUT/espeak"
    "$python" "$ROOT/launch/make_espeak_speech.py" "$OUT/espeak" --minutes 24 >&2
  fi
  flags+=(--data "$OUT/espeak")
fi
# The last of two equal flags wins, so --bundle and --output can be given again.
exec "$python" -m audiolm_jax.cli eval all "${flags[@]}" "$@"
