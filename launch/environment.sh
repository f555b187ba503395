# Sourced by the other scripts: make_environment NAME PIP_TARGET makes .venv at the root of the repository and installs
# the package into it. A second call does nothing while setup.py and the interpreter stay the same.
#
# PYTHON=/path/to/python3.12 chooses the interpreter.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

say() { printf '[%s] %s\n' "$(basename "$0" .sh)" "$*" >&2; }

stop() {
  say "$*"
  exit 2
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
    [[ -z "${PYTHON:-}" ]] || stop "PYTHON=$PYTHON does not run or is older than Python 3.11; name another one"
  done
  stop "Python 3.11 or newer is needed and was not found; install it (Debian, Ubuntu: apt install python3 python3-venv)" \
    "or name it: PYTHON=/path/to/python3.11 $0"
}

# Modules are compiled when they are first imported, which is quicker than compiling all of them at installation.
make_environment() {
  local name="$1" target="$2" python log wanted
  if [[ ! -x "$VENV/bin/python" ]] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)" || exit 2
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
      stop "this Python cannot make environments; install its venv package (Debian, Ubuntu: apt install python3-venv)"
    say "making .venv with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" || stop "python -m venv failed; the lines above say why"
  fi
  # The folder is part of it: an environment does not survive being moved.
  wanted="$("$VENV/bin/python" -c 'import hashlib, pathlib, sys
print(hashlib.sha256((pathlib.Path(sys.argv[1], "setup.py").read_text() + sys.version + sys.argv[1]).encode()).hexdigest())' "$ROOT")"
  [[ "$(cat "$VENV/installed.$name" 2>/dev/null)" != "$wanted" ]] || return 0
  say "installing the package ($name); this takes one to three minutes the first time"
  log="$VENV/install.$name.log"
  if ! "$VENV/bin/python" -m pip install --no-compile --editable "$target" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    stop "the installation failed; the whole log is $log"
  fi
  printf '%s\n' "$wanted" >"$VENV/installed.$name"
}
