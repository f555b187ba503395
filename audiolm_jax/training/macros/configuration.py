"""Configurations: a gin file and `--set MACRO=VALUE`, parsed, and checked before anything is built from them.

This module and `experiment`, which builds, are the only ones that import gin. Gin files bind public constructors and
functions; what a user changes are macros (capital letters, one comment with the unit at each). Every mistake is an
error: an unknown macro, a misspelt parameter, a binding that nothing uses, a value that its constructor does not take.
"""

import ast
import difflib
import functools
import logging
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gin

from audiolm_jax.errors import UserError, brief, first_line
from audiolm_jax.training.macros import settings
from audiolm_jax.training.macros.former_experiments import FORMER_EXPERIMENTS

_ROOT = "audiolm_jax.training.experiment.Experiment"

# Of a value that is shown in an error.
_SHOWN_CHARACTERS = 100


def parse(
    exp: str | Path,
    overrides: Sequence[str] = (),
    data: str | Sequence[str] | None = None,
    modules: str | Sequence[str] | None = None,
) -> str:
    """Makes gin's configuration from a file and overrides, checks and locks it, and returns it as text.

    Raises:
      UserError: no such file, a syntax error, an unknown name, an override of a macro that does not exist, a binding
        that touches nothing, or a value that its constructor does not take.
    """
    _add_search_paths()
    path = find(exp)
    gin.clear_config()
    logging.disable(logging.ERROR)  # gin logs an error for every folder in which it does not find an include
    try:
        gin.parse_config_file(str(path))
    except tokenize.TokenError as error:  # a bracket or a quotation that is never closed
        problem, (line, _) = error.args
        raise UserError(f"{path}, line {line}: {problem}") from error
    except (RecursionError, MemoryError) as error:
        raise UserError(f"{path}: brackets, or files that include one another, are nested too deep") from error
    except Exception as error:  # noqa: BLE001 - a text that is no gin file makes it raise whatever Python does
        raise UserError(f"{path}: {first_line(error)}") from error
    finally:
        logging.disable(logging.NOTSET)
    own, parameters = macros(), _parameters()
    changes = [_setting(override, parameters) for override in overrides]
    for name, given in (("DATA_DIR", data), ("SEQIO_MODULES", modules)):
        if given:
            changes.append((name, given if isinstance(given, str) else tuple(given)))
    for name, value in changes:
        if name not in own:
            near = difflib.get_close_matches(name, own, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(own))}"
            raise UserError(f"{path} has no macro {name}; {hint}")
        gin.bind_parameter((name, "gin.macro", "value"), value)
    parameters = _parameters()  # a macro that was another one may be a value now
    _check_values(path, own, {name: known for name, known in parameters.items() if name in own})
    _check_all_used(path)
    _check_values(path, own, parameters)
    # One binding a line, however long, so that lines can be compared; without gin's rulers of the same length.
    lines = gin.config_str(max_line_length=10_000).splitlines()
    _bind_as_wanted(parameters)
    try:
        gin.finalize()
    except ValueError as error:
        raise UserError(f"{path}: {first_line(error)}") from error
    return "\n".join(line for line in lines if not line.startswith("# ==")) + "\n"


def find(exp: str | Path) -> Path:
    """The gin file that `audiolm train EXP` means: a path, or a name in gin/exp with or without ".gin".

    Raises:
      UserError: there is none; the line lists the names there are, or says what an earlier name is called now.
    """
    exp = str(exp)
    name = exp if exp.endswith(".gin") else exp + ".gin"
    candidates = [Path(name)]
    for root in search_paths():
        candidates += [root / name, root / "gin" / "exp" / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if now := FORMER_EXPERIMENTS.get(Path(name).stem):
        raise UserError(f"there is no experiment '{exp}' any more; write {now}")
    names = ", ".join(experiment_names())
    raise UserError(f"there is no experiment '{exp}'; give a path to a gin file or one of {names}")


def experiment_names() -> list[str]:
    """Names of the experiments in gin/exp."""
    return sorted({path.stem for root in search_paths() for path in (root / "gin" / "exp").glob("*.gin")})


def search_paths() -> list[Path]:
    """Folders that hold `gin/`: the repository, and the installed package, which carries a copy."""
    package = Path(__file__).resolve().parents[2]
    return [root for root in (package.parent, package) if (root / "gin" / "exp").is_dir()]


def macros() -> dict[str, Any]:
    """Name and value of every macro of the configuration that is parsed now."""
    return {scope: values["value"] for (scope, selector), values in _bindings().items() if selector == "gin.macro"}


def _bindings() -> dict[tuple[str, str], dict[str, Any]]:
    # gin shows its configuration to finalize hooks only, which is too late for a macro that may still be overridden.
    return gin.config._CONFIG


@functools.cache
def _add_search_paths() -> None:
    for root in search_paths():
        gin.add_config_file_search_path(str(root))


def _setting(override: str, parameters: dict[str, list[Any]]) -> tuple[str, Any]:
    """("STEPS", 100) of "STEPS=100"; text needs no quotes, be it a Python literal or not (a folder named 2024)."""
    name, sign, text = map(str.strip, override.partition("="))
    if not sign or not name:
        raise UserError(f"--set {override}: write it as MACRO=VALUE")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, text
    taken = [annotation for annotation in parameters.get(name, []) if not settings.fits(value, annotation)]
    return name, text if taken and all(settings.fits(text, annotation) for annotation in taken) else value


def _parameters() -> dict[str, list[Any]]:
    """The annotations of all parameters that a macro, or a binding without a macro ("RunOptions.steps"), reaches."""
    found: dict[str, list[Any]] = {}
    for (_, selector), values in _bindings().items():
        if selector == "gin.macro":
            continue
        annotations = settings.annotations(gin.config._REGISTRY[selector].wrapped)
        for parameter, value in values.items():
            name = _macro_of(value) or _binding_name(selector, parameter)
            if parameter in annotations:
                found.setdefault(name, []).append(annotations[parameter])
    return found


def _binding_name(selector: str, parameter: str) -> str:
    return f"{selector.rpartition('.')[2]}.{parameter}"


def _macro_of(value: Any) -> str | None:
    """The macro that a value of gin's configuration is, the last one of a chain of them; None if it is none.

    Raises:
      UserError: the chain is a circle.
    """
    name, seen = None, set()
    while isinstance(value, gin.config.ConfigurableReference) and value.config_key[1] == "gin.macro":
        name = value.config_key[0]
        if name in seen:
            raise UserError(f"{name}: a macro refers to itself, perhaps through others; give it a value")
        seen.add(name)
        value = macros().get(name)
    return name


def _check_values(path: Path, own: dict[str, Any], parameters: dict[str, list[Any]]) -> None:
    """Compares every value with the annotations of what it is bound to.

    Args:
      path: the gin file.
      own: macros as it has them, without the overrides.
      parameters: see `_parameters`.

    Raises:
      UserError: a value of another type or out of range, with the name of its macro and what it takes.
    """
    values = {_binding_name(selector, parameter): value for (_, selector), bound in _bindings().items()
              for parameter, value in bound.items()} | macros()
    for name, annotations in parameters.items():
        value = values[name]
        if _has_reference(value):
            continue  # what a constructor makes of it
        for annotation in annotations:
            if settings.fits(value, annotation):
                continue
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + " ..."
            overridden = name in own and own[name] != value
            usual = f" (the gin file has {own[name]!r})" if overridden and settings.fits(own[name], annotation) else ""
            place = "" if overridden else f"{path}: "
            raise UserError(f"{place}{name} is {shown}, but takes {settings.takes(annotation)}{usual}")


def _bind_as_wanted(parameters: dict[str, list[Any]]) -> None:
    """Makes numbers of the whole numbers that are bound where numbers are wanted; NumPy and JAX tell 0 from 0.0."""
    for name, value in macros().items():
        if name in parameters and not _has_reference(value):
            wanted = {repr(one): one for one in (settings.as_wanted(value, each) for each in parameters[name])}
            if len(wanted) == 1:
                gin.bind_parameter((name, "gin.macro", "value"), *wanted.values())


def _has_reference(value: Any) -> bool:
    return any(isinstance(leaf, gin.config.ConfigurableReference) for leaf in _leaves(value))


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, (tuple, list)):
        return [value]
    return [leaf for one in value for leaf in _leaves(one)]


def _check_all_used(path: Path) -> None:
    """Every binding must be reachable from the experiment through references.

    Raises:
      UserError: one that is not: a typing mistake, or a file that is included for nothing.
    """
    bindings = _bindings()
    reached, waiting = set(), [("", _ROOT)]
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        references = gin.config.iterate_references(bindings.get(key, {}))
        waiting += [reference.config_key for reference in references]
    for (scope, selector), values in bindings.items():
        if (scope, selector) not in reached:
            what = brief(f"macro {scope}" if selector == "gin.macro" else f"{selector}.{next(iter(values))}")
            raise UserError(f"{path}: {what} touches nothing; remove it, or use it where it should count")


def told(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """What a constructor said in the error that it raised when gin called it, with the macros behind it.

    Args:
      error: gin has added lines with the call to it; the first is the constructor's own.
      overrides: "MACRO=VALUE" each; they are told where the line names none of their macros.
    """
    line = first_line(error)
    call = re.search(r"In call to configurable '([\w.]+)'", str(error))
    words = set(re.findall(r"\w+", line))
    given = {}
    for (_, selector), bound in _bindings().items():
        if call is not None and selector.rpartition(".")[2] == call[1].rpartition(".")[2]:
            given |= {name: macro for name, value in bound.items() if (macro := _macro_of(value))}
    named = dict.fromkeys(macro for name, macro in given.items() if name in words and macro not in words)
    if named:
        line += f"; change {' or '.join(named)}"
    overridden = {override.partition("=")[0].strip() for override in overrides}
    if overridden and not overridden & {*words, *named}:
        line += f" (with --set {', '.join(overrides)})"
    return line
