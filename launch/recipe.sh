# Sourced by the scripts that train a whole system, after environment.sh and settings.sh: trainings and files that are made
# once. They set WORK, the arrays DATA (folders of sound) and NAMES (of the folders of their tokens), MIXTURE and
# VENV_PYTHON.
# shellcheck disable=SC2034,SC2153

audiolm() { "$VENV_PYTHON" -m audiolm_jax.cli "$@"; }

# trainings PART=EXPERIMENT ...: the settings PART_STEPS and PART_SET of each.
trainings() {
  local entry part upper
  for entry in "$@"; do
    part="${entry%%=*}" upper="$(tr '[:lower:]' '[:upper:]' <<<"${entry%%=*}")"
    setting "${upper}_STEPS" "" "steps of ${entry#*=}; empty for those of its gin file"
    setting "${upper}_SET" "" "further macros of ${entry#*=}, such as BATCH_SIZE=4 SEED=1"
  done
}

# Whether file $1 exists and is newer than all the others.
newer() {
  local file="$1" other
  [[ -f "$file" ]] || return 1
  for other in "${@:2}"; do [[ "$file" -nt "$other" ]] || return 1; done
}

# flagged FLAG WORD...: the array FLAGGED, each word after the flag.
flagged() {
  local word
  FLAGGED=()
  for word in "${@:2}"; do FLAGGED+=("$1" "$word"); done
}

# train PART EXPERIMENT KIND [MACRO=VALUE ...]: trains in WORKDIR/PART on the folders of KIND, "sound" or "tokens".
train() {
  local part="$1" experiment="$2" kind="$3" upper steps_name set_name macro
  upper="$(printf '%s' "$part" | tr '[:lower:]' '[:upper:]')"
  steps_name="${upper}_STEPS" set_name="${upper}_SET"
  local -a macros=("${@:4}") flags=()
  [[ -z "$MIXTURE" ]] || macros+=("MIXTURE=$MIXTURE")
  [[ -z "${!steps_name:-}" ]] || macros+=("STEPS=${!steps_name}")
  # shellcheck disable=SC2206  # the variable is a list of words
  macros+=(${!set_name:-})
  for macro in ${macros[@]+"${macros[@]}"}; do flags+=(--set "$macro"); done
  if [[ "$kind" == sound ]]; then flagged --data "${DATA[@]}"; else flagged --data "${NAMES[@]/#/$WORK/tokens/}"; fi
  say "$part"
  audiolm train "$experiment" "${FLAGGED[@]}" --workdir "$WORK/$part" ${flags[@]+"${flags[@]}"}
  [[ -f "$WORK/$part/done" ]] || stop "$part was stopped; start the same command again to go on"
}
