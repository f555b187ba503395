"""Pickle streams read as data: what a file says is looked at, and nothing of it is ever called.

A pickle is a program for a small stack machine, and loading one may run anything. Here the program is followed only as
far as it builds plain values; where it names a class or a function, the name is compared with a list, and what calling
it would give stays a `Call` that holds the name and the arguments.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from audiolm_jax.errors import UserError, brief

_MARK = object()
# What may be a key, or in a set.
_PLAIN = (str, bytes, int, float, bool, type(None))


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or a function, by its name "module.attribute"."""

    name: str


@dataclasses.dataclass
class Call:
    """What calling a name, or making an object of a class, would give.

    Attributes:
        name: of the class or function.
        args: that it would be called with.
        state: that the object would be set to.
        entries: that would be put into it, if it is a kind of dictionary.
    """

    name: str
    args: tuple
    state: Any = None
    entries: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A value that is kept outside of the stream (pickle calls its key a persistent id)."""

    key: Any


def read_pickle(
    stream: BinaryIO,
    allowed: Collection[str],
    where: str,
    remedy: str,
    after_build: Callable[[Call], Any] | None = None,
) -> Any:
    """The value that a pickle stream builds, in plain values, `Name`, `Call` and `Reference`.

    Args:
        stream: at the beginning of the pickle; left behind its end.
        allowed: names that may occur.
        where: names the file in errors.
        remedy: what to do about a file that is refused.
        after_build: is given each Call whose state was just set, and returns what stands in its place; it may read what
            lies inline in the stream.

    Raises:
        UserError: the stream is damaged, or it names something else.
    """
    try:
        return _Machine(allowed, where, remedy, after_build).run(stream)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged stream makes of the stack
        raise UserError(f"{where} is damaged or no file of this format; {remedy}") from error


class _Machine:
    """The stack machine; methods are named after what they do to the stack."""

    def __init__(self, allowed, where, remedy, after_build):
        self._allowed, self._where, self._remedy, self._after_build = allowed, where, remedy, after_build
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, value, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name in _VALUES:
                self._stack.append(value)
            elif name in _IGNORED:
                continue
            else:
                handler = _HANDLERS.get(name)
                if handler is None:
                    raise UserError(f"{self._where} uses {name}, which no file of tensors needs; {self._remedy}")
                handler(self, value)
        raise ValueError("no STOP")

    def _name(self, name: str) -> Name:
        if name not in self._allowed:
            raise UserError(f"{self._where} would run {brief(name)} when it is loaded; nothing was run; {self._remedy}")
        return Name(name)

    def _since_mark(self) -> list[Any]:
        # By identity: an array on the stack would compare itself item by item.
        at = next(place for place in reversed(range(len(self._stack))) if self._stack[place] is _MARK)
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _global(self, value: str) -> None:
        self._stack.append(self._name(value.replace(" ", ".", 1)))

    def _stack_global(self, _) -> None:
        attribute, module = self._stack.pop(), self._stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        self._stack.append(self._name(f"{module}.{attribute}"))

    def _reduce(self, _) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        self._stack.append(_called(function, args))

    def _new_object_with_names(self, _) -> None:
        names, args, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(_called(kind, (*args, names)))

    def _build(self, _) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if not isinstance(made, Call):
            return  # attributes of a dictionary: nothing that holds tensors
        made.state = state
        if self._after_build is not None:
            self._stack[-1] = self._after_build(made)

    def _persistent(self, _) -> None:
        self._stack.append(Reference(self._stack.pop()))

    def _put(self, key: int) -> None:
        self._memo[int(key)] = self._stack[-1]

    def _memoize(self, _) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, key: int) -> None:
        self._stack.append(self._memo[int(key)])

    def _append(self, _) -> None:
        value = self._stack.pop()
        self._stack[-1].append(value)

    def _appends(self, _) -> None:
        values = self._since_mark()
        self._stack[-1].extend(values)

    def _set_item(self, _) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(self._stack[-1], [key, value])

    def _set_items(self, _) -> None:
        pairs = self._since_mark()
        self._set(self._stack[-1], pairs)

    @staticmethod
    def _set(target: Any, pairs: list[Any]) -> None:
        # Hashing or printing tuples of tuples of one another, which a few bytes can make, may take for ever.
        if not all(isinstance(key, _PLAIN) for key in pairs[::2]):
            raise ValueError("a key that is no plain value")
        entries = target.entries if isinstance(target, Call) else target
        entries.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _add_items(self, _) -> None:
        values = self._since_mark()
        if not all(isinstance(value, _PLAIN) for value in values):
            raise ValueError("a set of other than plain values")
        self._stack[-1].update(values)

    def _tuple(self, size: int) -> None:
        values = self._stack[len(self._stack) - size :]
        del self._stack[len(self._stack) - size :]
        self._stack.append(tuple(values))


def _called(function: Any, args: Any) -> Call:
    if not isinstance(function, Name):
        raise ValueError("a call of no name")
    return Call(function.name, tuple(args))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 STRING BINSTRING SHORT_BINSTRING".split()
)
_IGNORED = frozenset({"PROTO", "FRAME"})
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._new_object_with_names,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._add_items,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._since_mark())),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "LIST": lambda machine, _: machine._stack.append(machine._since_mark()),
    "POP": lambda machine, _: machine._stack.pop(),
    "POP_MARK": lambda machine, _: machine._since_mark(),
}
