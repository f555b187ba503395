"""Frozen dataclasses of plain values as JSON and back, by their field types. Reading never runs what it reads."""

import dataclasses
import functools
import json
import re
import types
import typing
from fractions import Fraction
from typing import Any

from audiolm_jax.errors import UserError, first_line, shown

# As `to_plain` writes one: Fraction itself also takes "1e999999999", and computes it.
_FRACTION = re.compile(r"-?\d{1,30}(/\d{1,30})?", re.ASCII)


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; bytes are UTF-8, and a byte-order mark before them does not count.

    Raises:
        ValueError: it is no JSON, or holds what no writer makes: lists in lists beyond all depth, or half a character.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deep") from error
    if "\\ud" in text or "\\uD" in text:
        # Half of a surrogate pair is a character that can be neither printed nor written again.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def to_plain(value: Any) -> Any:
    """`value` in JSON's own types.

    Dataclasses become objects of their fields that can be given to the constructor, tuples become lists, a Fraction
    becomes "numerator/denominator".

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r}")


def from_plain(kind: Any, plain: Any, where: str) -> Any:
    """The inverse of `to_plain`.

    Args:
        kind: a dataclass, or the type of one of its fields: int, float, str, bool, Fraction, None, tuple, dict,
            Literal, unions of these, Any.
        plain: what `parse` gave; parts that are read already are taken as they are.
        where: names the place in errors, for example "manifest.json: codec.config".

    Raises:
        UserError: a field is missing, unknown, of another type, or refused by the dataclass itself.
    """
    if kind is Any or (dataclasses.is_dataclass(plain) and not isinstance(plain, type)):
        return plain
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, plain, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1:
            return from_plain(others[0], plain, where)
    if origin is tuple and isinstance(plain, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(plain)
        if len(arguments) == len(plain):
            pairs = zip(arguments, plain, strict=True)
            return tuple(from_plain(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(pairs))
    if origin is dict and isinstance(plain, dict):
        return {name: from_plain(arguments[1], item, f"{where}.{name}") for name, item in plain.items()}
    if kind is dict and isinstance(plain, dict):
        return plain
    if kind is Fraction and isinstance(plain, str) and _FRACTION.fullmatch(plain):
        try:
            return Fraction(plain)
        except ZeroDivisionError:
            pass
    if kind is float and isinstance(plain, (int, float)) and not isinstance(plain, bool):
        try:
            return float(plain)
        except OverflowError:
            pass
    # bool is an int to Python, but a true number of layers is a mistake.
    if kind in (int, str, bool) and type(plain) is kind:
        return plain
    if kind is type(None) and plain is None:
        return None
    if origin is typing.Literal:
        if plain in arguments:
            return plain
        raise UserError(f"{where} is {shown(plain)}, but must be {' or '.join(map(str, arguments))}")
    name = getattr(kind, "__name__", str(kind))
    raise UserError(f"{where} is {shown(plain)}, which is no {name}; the file is damaged or of another version")


@functools.cache
def _fields_of(kind: type) -> tuple[dict[str, dataclasses.Field], dict[str, Any]]:
    """Fields that a constructor takes, and the types of all, by name."""
    return {field.name: field for field in dataclasses.fields(kind) if field.init}, typing.get_type_hints(kind)


def _dataclass(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        found = f"{where} is {shown(plain)}"
        raise UserError(f"{found}, which is no {kind.__name__}; the file is damaged or of another version")
    fields, kinds = _fields_of(kind)
    for name in plain:
        if name not in fields:
            raise UserError(f"{where} has {shown(name)}, which this version does not know; update audiolm_jax")
    values = {}
    for name, field in fields.items():
        if name in plain:
            values[name] = from_plain(kinds[name], plain[name], f"{where}.{name}")
        # A default would hide that the writer had another one: every field is written, so every field must be there.
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where} lacks {name!r}; the file is damaged or of another version")
    try:
        return kind(**values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{where}: {first_line(error)}") from error
