#!/usr/bin/env bash
# Trains a whole small system on a folder of speech: codec, w2v-BERT, k-means, tokens, semantic, coarse and fine stage;
# ends with a bundle and a report on held-out speakers. Stop it at any time; the same command goes on from there.
#
#   ./launch/train_small.sh DATA_DIR WORKDIR
#
# DATA_DIR holds audio files (.wav .flac .ogg .opus .mp3), one folder for each speaker. WORKDIR/bundle is the result:
#   audiolm generate --bundle WORKDIR/bundle --mode continuation --prompt IN.wav --output OUT.wav
#
# Variables: CODEC_STEPS, W2V_BERT_STEPS, KMEANS_STEPS, SEMANTIC_STEPS, COARSE_STEPS, FINE_STEPS change the lengths;
# CODEC_SET, W2V_BERT_SET, ... are further macros ("BATCH_SIZE=4 SEED=1"); HELDOUT_SPEAKERS (20); LICENCE of the weights;
# NAME of the system; REPORT_CLIPS (40), held-out recordings in the report; VENV_PYTHON, an interpreter that has the
# package, in place of .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

[[ $# -eq 2 ]] || stop "usage: $0 DATA_DIR WORKDIR"
DATA="$1" WORK="$2"
[[ -d "$DATA" ]] || stop "$DATA is no folder; give a folder of speech"
HELDOUT_SPEAKERS="${HELDOUT_SPEAKERS:-20}"
mkdir -p "$WORK"
if [[ -z "${VENV_PYTHON:-}" ]]; then
  make_environment train "$ROOT[train,eval]"
  VENV_PYTHON="$VENV/bin/python"
fi
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

audiolm() { "$VENV_PYTHON" -m audiolm_jax.cli "$@"; }

# Whether file $1 exists and is newer than all the others.
newer() {
  local file="$1" other
  [[ -f "$file" ]] || return 1
  for other in "${@:2}"; do [[ "$file" -nt "$other" ]] || return 1; done
}

# train NAME DATA [MACRO=VALUE ...]: experiment NAME_small in WORKDIR/NAME.
train() {
  local name="$1" data="$2" upper steps_name set_name macro
  upper="$(printf '%s' "$name" | tr '[:lower:]' '[:upper:]')"
  steps_name="${upper}_STEPS" set_name="${upper}_SET"
  local -a macros=("${@:3}") flags=()
  [[ -z "${!steps_name:-}" ]] || macros+=("STEPS=${!steps_name}")
  # shellcheck disable=SC2206  # the variable is a list of words
  macros+=(${!set_name:-})
  for macro in ${macros[@]+"${macros[@]}"}; do flags+=(--set "$macro"); done
  say "$name"
  audiolm train "${name}_small" --data "$data" --workdir "$WORK/$name" ${flags[@]+"${flags[@]}"}
  [[ -f "$WORK/$name/done" ]] || stop "$name was stopped; start the same command again to go on"
}

train codec "$DATA" "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS"
train w2v_bert "$DATA" "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS"
train kmeans "$DATA" "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS" "W2V_BERT=$WORK/w2v_bert"

# Tokens come from the rounded weights that will ship, so the tokenizers are exported before anything is tokenized.
if ! newer "$WORK/tokenizers/manifest.json" "$WORK/codec/done" "$WORK/kmeans/done"; then
  say "exporting the tokenizers"
  "$VENV_PYTHON" - "$WORK" "$DATA" "${NAME:-small}" "${LICENCE:-not stated; depends on the training data}" <<'PY'
import sys
from pathlib import Path

from audiolm_jax.bundle.workdirs import export_tokenizers

work, data, name, licence = Path(sys.argv[1]), *sys.argv[2:]
export_tokenizers(
    work / "tokenizers", work / "codec", work / "kmeans", name, licence, [Path(data).resolve().name], overwrite=True
)
PY
fi

say "tokenizing"
audiolm tokenize --input "$DATA" --output "$WORK/tokens" --bundle "$WORK/tokenizers" \
  --heldout_speakers "$HELDOUT_SPEAKERS"

for stage in semantic coarse fine; do train "$stage" "$WORK/tokens"; done

if ! newer "$WORK/bundle/manifest.json" "$WORK"/{tokenizers/manifest.json,semantic/done,coarse/done,fine/done}; then
  say "exporting the bundle"
  "$VENV_PYTHON" - "$WORK" <<'PY'
import sys
from pathlib import Path

from audiolm_jax.bundle.workdirs import export_system

work = Path(sys.argv[1])
stages = {name: work / name for name in ("semantic", "coarse", "fine")}
export_system(work / "bundle", work / "tokenizers", stages, overwrite=True)
PY
fi
