"""`audiolm completion bash` and `zsh`: a script that completes the commands, made from their parsers."""

import argparse
import sys
from argparse import Namespace
from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

from audiolm_jax.cli import arguments

FOLDER, FILE, EXPERIMENT, BUNDLE, UNKNOWN = "folder", "file", "experiment", "bundle", ""
# By what stands for a value in the help.
_KIND_OF_METAVAR = {
    "DIR": FOLDER, "EXP": EXPERIMENT, **dict.fromkeys(("FILE", "PATH", "HTML", "IN", "OUT", "SOURCE"), FILE)
}  # fmt: skip


class _Command(NamedTuple):
    """A command, and what can follow it.

    Attributes:
        name: "" for `audiolm` itself, "train", "eval", "eval abx" ...
        summaries: of its subcommands, by name.
        options: that begin with a dash.
        positionals: that do not.
    """

    name: str
    summaries: dict[str, str]
    options: list[argparse.Action]
    positionals: list[argparse.Action]


def add_completion(parser) -> None:
    """The arguments of `audiolm completion`."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="that is to complete the commands")


def completion(args: Namespace) -> int:
    """Prints the script."""
    from audiolm_jax.cli.command_line import parser

    commands = list(_walk(parser(), ""))
    sys.stdout.write(_bash(commands) if args.shell == "bash" else _zsh(commands))
    return 0


def _walk(parser: argparse.ArgumentParser, name: str) -> Iterator[_Command]:
    """All commands, `audiolm` itself first."""
    children: dict[str, argparse.ArgumentParser] = {}
    found = _Command(name, {}, [], [])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            children = action.choices
            found.summaries.update({choice.dest: choice.help or "" for choice in action._choices_actions})
        else:
            (found.options if action.option_strings else found.positionals).append(action)
    yield found
    for child, its_parser in children.items():
        yield from _walk(its_parser, f"{name} {child}".lstrip())


def _kind(action: argparse.Action) -> str | tuple[str, ...]:
    """What a value is: one of the kinds above, or the words to choose from."""
    if action.choices:
        return tuple(map(str, action.choices))
    return BUNDLE if action.type is arguments.bundle else _KIND_OF_METAVAR.get(action.metavar, UNKNOWN)


def _filled(script: str, **parts: str) -> str:
    """A script with its parts in the places that @NAME@ marks, and the names that are known."""
    from audiolm_jax.files.model_folders import shipped_bundles
    from audiolm_jax.training.macros.configuration import experiment_names

    parts |= {"experiments": " ".join(experiment_names()), "bundles": " ".join(shipped_bundles())}
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script


_BASH = r"""# Completion of audiolm for bash, made by `audiolm completion bash`.

_audiolm() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" command="" words="" kind="" flags="" at
  # Bash takes the sign of equality in --flag=value for a word.
  if [[ $word == "=" ]]; then word=""; elif [[ $before == "=" ]]; then before="${COMP_WORDS[COMP_CWORD - 2]}"; fi
  for ((at = 1; at < COMP_CWORD; at++)); do
    case "${command:+$command }${COMP_WORDS[at]}" in
      @names@) command="${command:+$command }${COMP_WORDS[at]}" ;;
    esac
  done
  case "$command $before" in
@values@
    *)
      case "$command" in
@following@
      esac
      # Flags are shown where a dash is there, or where nothing else is asked for.
      if [[ $word == -* || -z $words$kind ]]; then words="$flags" kind=""; fi
      ;;
  esac
  case "$kind" in
    experiment) words="@experiments@" ;;
    bundle) words="@bundles@" ;;
  esac
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "${words// /$IFS}" -- "$word"))
  case "$kind" in
    folder | bundle) COMPREPLY+=($(compgen -d -- "$word")) ;;
    file) COMPREPLY+=($(compgen -f -- "$word")) ;;
    experiment) COMPREPLY+=($(compgen -f -X '!*.gin' -- "$word") $(compgen -d -- "$word")) ;;
  esac
  # Names with spaces are quoted then, and folders get their slash.
  if [[ -n $kind ]]; then compopt -o filenames 2>/dev/null || :; fi
}

complete -F _audiolm audiolm
"""


def _bash(commands: list[_Command]) -> str:
    values: dict[str | tuple[str, ...], list[str]] = {}
    following = []
    for command in commands:
        for option in command.options:
            if option.nargs != 0:
                patterns = [f'"{command.name} {flag}"' for flag in option.option_strings]
                values.setdefault(_kind(option), []).extend(patterns)
        flags = " ".join(flag for option in command.options for flag in option.option_strings)
        kinds = [kind for kind in map(_kind, command.positionals) if kind != UNKNOWN]
        if command.summaries:
            kinds.insert(0, tuple(command.summaries))
        following.append(f'        "{command.name}") flags="{flags}" {_bash_assignment(kinds[0]) if kinds else ""} ;;')
    return _filled(
        _BASH,
        names=" | ".join(f'"{command.name}"' for command in commands if command.name),
        values="\n".join(f"    {' | '.join(flags)}) {_bash_assignment(kind)} ;;" for kind, flags in values.items()),
        following="\n".join(following),
    )


def _bash_assignment(kind: str | tuple[str, ...]) -> str:
    return f"kind={kind}" if isinstance(kind, str) else f'words="{" ".join(kind)}"'


_ZSH = r"""#compdef audiolm
# Completion of audiolm for zsh, made by `audiolm completion zsh`.

_audiolm_experiment() {
  _alternative 'names:experiment:(@experiments@)' 'files:gin file:_files -g "*.gin"'
}

_audiolm_bundle() {
  _alternative 'names:bundle that ships:(@bundles@)' 'folders:folder:_files -/'
}

_audiolm() {
  local command="" longer
  local -a subcommands
  while ((CURRENT > 2)); do
    longer="${command:+$command }${words[2]}"
    case "$longer" in
      @names@) command="$longer" ;;
      *) break ;;
    esac
    shift words
    ((CURRENT--))
  done
  case "$command" in
@following@
  esac
}

if [[ "${funcstack[1]}" == _audiolm ]]; then
  _audiolm "$@"
else
  compdef _audiolm audiolm
fi
"""
_ZSH_ACTIONS = {
    FOLDER: "_files -/", FILE: "_files", EXPERIMENT: "_audiolm_experiment", BUNDLE: "_audiolm_bundle", UNKNOWN: " "
}  # fmt: skip


def _zsh(commands: list[_Command]) -> str:
    following = []
    for command in commands:
        specs = [quote(_zsh_option(option, flag)) for option in command.options for flag in option.option_strings]
        specs += [quote(_zsh_positional(positional)) for positional in command.positionals]
        does = f"_arguments {' '.join(specs)}"
        if command.summaries:
            names = " ".join(quote(f"{name}:{summary}") for name, summary in command.summaries.items())
            does = (
                f"if ((CURRENT == 2)) && [[ ${{words[2]}} != -* ]]; then\n"
                f"        subcommands=({names})\n"
                f"        _describe command subcommands\n"
                f"      else\n"
                f"        {does}\n"
                f"      fi"
            )
        following.append(f'    "{command.name}")\n      {does}\n      ;;')
    names = " | ".join(f'"{command.name}"' for command in commands if command.name)
    return _filled(_ZSH, names=names, following="\n".join(following))


def _zsh_option(option: argparse.Action, flag: str) -> str:
    summary = (option.help or "").replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    repeated = "*" if isinstance(option, argparse._AppendAction) else ""
    value = "" if option.nargs == 0 else f":{option.metavar or option.dest}:{_zsh_action(option)}"
    return f"{repeated}{flag}[{summary}]{value}"


def _zsh_positional(positional: argparse.Action) -> str:
    place = {"*": "*:", "?": "::"}.get(positional.nargs, ":")
    return f"{place}{positional.metavar or positional.dest}:{_zsh_action(positional)}"


def _zsh_action(action: argparse.Action) -> str:
    kind = _kind(action)
    return _ZSH_ACTIONS[kind] if isinstance(kind, str) else f"({' '.join(kind)})"
