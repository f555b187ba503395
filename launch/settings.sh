# Sourced by the other scripts, after environment.sh: settings that come from the environment, --help that lists them with
# their values, and, for the launchers of clusters, --dry_run that prints every command in place of running it.

SETTINGS=()
DRY_RUN=no
ARGUMENTS=()

# setting NAME DEFAULT TEXT: sets NAME to the value of the environment, in one line, or to DEFAULT.
setting() {
  local value="${!1-$2}"
  printf -v "$1" '%s' "${value//$'\n'/ }"
  SETTINGS+=("$1" "$3")
}

# The first lines of the script, then every setting with its value and meaning.
print_help() {
  local i
  sed -n '2,/^set -/{/^set -/d;/^# shellcheck/d;s/^# \{0,1\}//;p;}' "$1"
  printf '\n'
  printf 'Variables of the environment, with the values they have now:\n\n'
  for ((i = 0; i < ${#SETTINGS[@]}; i += 2)); do
    printf '  %s=%s\n      %s\n' "${SETTINGS[i]}" "$(quoted "${!SETTINGS[i]}")" "${SETTINGS[i + 1]}"
  done
}

# answer_help SCRIPT ARGUMENT...: prints the help and ends where an argument asks for it; nothing has been done by then.
answer_help() {
  local script="$1" argument
  for argument in "${@:2}"; do
    [[ "$argument" != -h && "$argument" != --help ]] && continue
    print_help "$script"
    exit 0
  done
}

# parse_flags SCRIPT ARGUMENT...: takes --help and --dry_run out; what is left is in ARGUMENTS.
parse_flags() {
  local script="$1" argument
  answer_help "$@"
  for argument in "${@:2}"; do
    case "$argument" in
      --dry_run) DRY_RUN=yes ;;
      -*) stop "there is no flag $argument; see $script --help" ;;
      *) ARGUMENTS+=("$argument") ;;
    esac
  done
}

# need NAME: stops unless the setting has a value.
need() { [[ -n "${!1}" ]] || stop "$1 is empty; set it: $1=... $0"; }

# quoted WORD...: the words as one line that a shell reads as the same words.
quoted() {
  local word line=""
  for word in "$@"; do
    [[ "$word" =~ ^[A-Za-z0-9_./:=@%+,-]*$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# run COMMAND...: runs it, or prints it in a dry run.
run() {
  if [[ "$DRY_RUN" == yes ]]; then
    quoted "$@"
  else
    "$@"
  fi
}
