"""Damage done to bytes, lines and plain values, drawn from a generator: what disks and editors do, and worse."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
# What stands in files where another value should.
ODD_VALUES = (
    None, True, False, 0, 1, -1, 3, 7, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.5, 1e-320,
    1e308, float("inf"), float("-inf"), float("nan"), "", " ", "x", "0", "1/0", "1/3", "1e999999999", "../x", "..",
    "/etc/hostname", "a/b", "\0", "\ud800", "\u2028", "y" * 10_000, "nan", b"\xff", [], {}, [[]], [0] * 1000, [-1],
    ["x"], {"": 0}, {"x": []},
)  # fmt: skip
_ODD_WORDS = (
    "0", "-1", "1e999", "-1e999", "nan", "inf", "1e308", "1e-400", "99999999999999999999", "0x10", "1_0", "1/0", "",
    " ", "\t", "\t\t", "\0", "\ufeff", "\u2028", "\u0085", "\u00a0", "\u200b", "\u0660", "\uffff",
    "\U0001f600", "'", '"', '"""', "\\", "#", "%", "@", "()", "(", ")", "[", "]", "{", "}", ",", ":", "=", "None",
    "True", "../x", "/dev/null", "w" * 200_000, "(" * 300, "[" * 5000, "{'a':" * 2000, "-" * 5000, "9" * 5000,
)  # fmt: skip
_TOKENS = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\w+|\s+|[^\w\s]")


def damage_bytes(rng: Random, data: bytes) -> bytes:
    """One to four pieces of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_ON_BYTES)(rng, data)
    return data


def damage_text(rng: Random, data: bytes) -> bytes:
    """One to four pieces of damage to lines and words, sometimes to bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_ON_TEXT)(rng, data)
    return data


def damage_plain(rng: Random, value: Any) -> Any:
    """A value of lists, dictionaries and plain values with one to three of its parts changed, dropped or added."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(rng, value)
    return value


def _changed(rng: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        value = dict(value)
        name = rng.choice(list(value))
        how = rng.random()
        if how < 0.75:
            value[name] = _changed(rng, value[name])
        elif how < 0.85:
            del value[name]
        elif how < 0.95:
            value[rng.choice(("x", "", "config", f"{name} "))] = value.pop(name)
        else:
            value["x"] = rng.choice(ODD_VALUES)
        return value
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        value = list(value)
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.75:
            value[at] = _changed(rng, value[at])
        elif how < 0.85:
            del value[at]
        else:
            value[at:at] = [value[rng.randrange(len(value))]] * rng.choice((1, 1, 100))
        return value
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.4:
        others = (value + 1, value - 1, -value, 2 * value, value // 2, value * 10**6, value * 10**12, str(value))
        return rng.choice(others)
    if isinstance(value, str) and value and rng.random() < 0.3:
        at = rng.randrange(len(value))
        return rng.choice((value[:at], value[:at] + rng.choice(_ODD_WORDS) + value[at:], value[::-1], value + " "))
    return rng.choice(ODD_VALUES)


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    """A stretch of at most a tenth, most often of a few bytes."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 4, 8, 64, len(data) // 10 + 1)))


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + bytes([rng.randrange(256)]) * (end - start) + data[end:]


def _scatter(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def _drop(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 3, 200)) + data[end:]


def _insert(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.choice((1, 2, 8, 100))) + data[start:]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _behead(rng: Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data) + 1) :]


def _exchange(rng: Random, data: bytes) -> bytes:
    first, second = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[second:] + data[first:second] + data[:first]


def _number(rng: Random, data: bytes) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    start = rng.randrange(max(1, len(data) - size + 1))
    number = rng.choice(_NUMBERS) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


_ON_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip, _flip, _set, _scatter, _drop, _repeat, _insert, _cut, _behead, _exchange, _number, _number,
)  # fmt: skip


def _word(rng: Random, data: bytes) -> bytes:
    """One word, number, space or sign becomes another, an odd one, or nothing."""
    tokens = _TOKENS.findall(data.decode("utf-8", "replace"))
    if not tokens:
        return b"?"
    at = rng.randrange(len(tokens))
    tokens[at] = rng.choice((rng.choice(_ODD_WORDS), rng.choice(_ODD_WORDS), rng.choice(tokens), ""))
    return "".join(tokens).encode("utf-8", "replace")


def _line(rng: Random, data: bytes) -> bytes:
    """A line is dropped, doubled, moved, or joined with the next one."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    taken = lines[at]
    how = rng.randrange(4)
    if how != 1:
        del lines[at]
    if how in (1, 2):
        lines.insert(rng.randrange(len(lines) + 1), taken)
    elif how == 3 and lines:
        lines[at % len(lines)] = taken + lines[at % len(lines)]
    return b"\n".join(lines)


def _fields(rng: Random, data: bytes) -> bytes:
    """Two fields of a line change places."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    parts = re.split(rb"([\t ,=:]+)", lines[at])
    first, second = (rng.randrange(0, len(parts), 2) for _ in range(2))
    parts[first], parts[second] = parts[second], parts[first]
    lines[at] = b"".join(parts)
    return b"\n".join(lines)


def _encoding(rng: Random, data: bytes) -> bytes:
    """Another encoding, or other line ends."""
    text = data.decode("utf-8", "replace")
    return rng.choice((
        b"\xef\xbb\xbf" + data, text.encode("utf-16"), text.encode("utf-16-le"), text.encode("latin-1", "replace"),
        data.replace(b"\n", b"\r\n"), data.replace(b"\n", b"\r"), data.rstrip(b"\n"), data.upper(), data.lower(),
    ))  # fmt: skip


_ON_TEXT = (_word, _word, _word, _word, _line, _line, _fields, _encoding, damage_bytes)
