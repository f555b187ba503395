"""What a setting of a gin file takes, by the annotation of the parameter it is bound to.

A gin file holds None, booleans, numbers, text, and tuples and lists of these. Everything else is made by a constructor,
which a reference names (`@muon.muon()`), so none of these values fits where an object is wanted.
"""

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from audiolm_jax.ranges import Range

_NONE = types.NoneType
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", _NONE: "None"}


def annotations(configurable: Callable) -> dict[str, Any]:
    """The annotation of every parameter of a class's constructor, or of a function; those without one are left out.

    Nothing is known of a library's function whose annotations name what only a type checker sees.
    """
    function = configurable.__init__ if inspect.isclass(configurable) else configurable
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def fits(value: Any, annotation: Any) -> bool:
    """Whether a parameter of this annotation takes a value that a gin file holds.

    A whole number fits where a number is wanted, but True is no number, 2.0 no whole number, and infinity neither.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Annotated:
        ranges = [extra for extra in annotation.__metadata__ if isinstance(extra, Range)]
        return fits(value, arguments[0]) and all(value in range_ for range_ in ranges)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple and Ellipsis not in arguments:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is tuple or origin is collections.abc.Sequence:
        sequence = tuple if origin is tuple else (tuple, list)
        return isinstance(value, sequence) and all(fits(one, arguments[0]) for one in value)
    if annotation in (int, float):
        number = isinstance(value, int if annotation is int else (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return annotation in _WORDS and isinstance(value, annotation)


def as_wanted(value: Any, annotation: Any) -> Any:
    """A value that fits, with whole numbers made numbers (2 to 2.0) where the annotation wants numbers."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return as_wanted(value, next(one for one in arguments if fits(value, one)))
    if origin is typing.Annotated:
        return as_wanted(value, arguments[0])
    if origin is tuple:
        wanted = arguments if Ellipsis not in arguments else arguments[:1] * len(value)
        return tuple(map(as_wanted, value, wanted))
    return float(value) if annotation is float else value


def takes(annotation: Any) -> str:
    """What fits, in words: "a whole number of at least 1", "text or None"."""
    return " or ".join(dict.fromkeys(_alternatives(annotation)))


def _alternatives(annotation: Any) -> Iterator[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            yield from _alternatives(one)
    elif origin is typing.Annotated:
        yield " ".join([takes(arguments[0]), *map(str, annotation.__metadata__)])
    elif origin is typing.Literal:
        yield from map(str, arguments)
    elif origin is tuple and Ellipsis not in arguments:
        yield f"({', '.join(map(takes, arguments))}) in parentheses"
    elif origin is tuple or origin is collections.abc.Sequence:
        yield f"several in parentheses, each {takes(arguments[0])}"
    elif annotation in _WORDS:
        yield _WORDS[annotation]
    else:
        yield "an object, which a gin file names as @module.constructor()"
