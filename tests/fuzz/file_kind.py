"""A kind of file that is read from other people's hands: whole ones, how they are damaged, and what reads them."""

import dataclasses
import functools
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from tests.fuzz.damage import damage_bytes, damage_plain, damage_text

Files = dict[str, bytes]

_DEEP = "stands for a value in which others are nested very deep"


@dataclasses.dataclass(frozen=True)
class FileKind:
    """Files that are read together.

    Attributes:
        name: of the kind.
        share: of all cases, as a weight.
        make: contents of whole ones by their names in a folder.
        damage: changes some of them, in place; what is dropped from the dictionary is missing.
        read: reads the folder with what a user's command would read it with.
    """

    name: str
    share: int
    make: Callable[[], Mapping[str, bytes]]
    damage: Callable[[Random, Files], None]
    read: Callable[[Path], None]

    @functools.cached_property
    def files(self) -> Mapping[str, bytes]:
        """What `make` gives."""
        return self.make()


def one_of(*damages: Callable[[Random, Files], None]) -> Callable[[Random, Files], None]:
    """One of several kinds of damage, each as likely as the others."""
    return lambda rng, files: rng.choice(damages)(rng, files)


def each_by(suffixes: Mapping[str, Callable[[Random, bytes], bytes]]) -> Callable[[Random, Files], None]:
    """Damages one file, in the way that goes with the end of its name; now and then it is missing or empty."""

    def damage(rng: Random, files: Files) -> None:
        name = rng.choice(sorted(name for name in files if any(map(name.endswith, suffixes))))
        how = next(how for suffix, how in suffixes.items() if name.endswith(suffix))
        luck = rng.random()
        if luck < 0.01:
            del files[name]
        else:
            files[name] = b"" if luck < 0.02 else how(rng, files[name])

    return damage


def damage_json(rng: Random, data: bytes) -> bytes:
    """As text, as bytes, or its values."""
    if rng.random() < 0.25:
        return damage_text(rng, data)
    plain = damage_plain(rng, json.loads(data))
    if rng.random() < 0.01:
        plain = {**plain, "x": _DEEP} if isinstance(plain, dict) else [plain, _DEEP]
    return dump(plain)


def damage_json_lines(rng: Random, data: bytes) -> bytes:
    """As text, or the values of one line."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.25 or not lines[at]:
        return damage_text(rng, data)
    lines[at] = damage_json(rng, lines[at])
    return b"\n".join(lines)


def dump(plain) -> bytes:
    """JSON of odd values too: bytes as text, and nesting that no dumper makes."""
    text = json.dumps(plain, default=lambda value: value.decode("latin-1"))
    return text.replace(json.dumps(_DEEP), "[" * 100_000 + "]" * 100_000).encode()


def damage_safetensors(rng: Random, data: bytes) -> bytes:
    """Its bytes, its header with a length that fits, or that of a tensor."""
    (length,) = struct.unpack("<Q", data[:8])
    if rng.random() < 0.3:
        return damage_bytes(rng, data)
    if rng.random() < 0.1:
        return struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))) + data[8:]
    header = damage_json(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def damage_npy(rng: Random, data: bytes) -> bytes:
    """Its bytes, or the text of its header with a length that fits."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    end = 10 + int.from_bytes(data[8:10], "little")
    header = damage_text(rng, data[10:end].rstrip())
    if rng.random() < 0.5:
        numbers = list(re.finditer(rb"\d+", data[10:end]))
        found = rng.choice(numbers)
        odd = rng.choice((b"0", b"1", b"-1", b"1000000", b"99999999999", b"18446744073709551616", b"1" * 500, b"True"))
        header = data[10 : 10 + found.start()] + odd + data[10 + found.end() : end]
    header = header[:60_000]
    return data[:8] + len(header).to_bytes(2, "little") + header + data[end:]


def damage_zip(how: Callable[[Random, str, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """The archive's own bytes, or what is in it with sums that fit; members may be renamed, dropped or compressed."""

    def damage(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return damage_bytes(rng, data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
        at = rng.randrange(len(members))
        name, content, compression = members[at]
        luck = rng.random()
        if luck < 0.8:
            members[at] = name, how(rng, name, content), compression
        elif luck < 0.85:
            del members[at]
        elif luck < 0.9:
            other = rng.choice((name[1:], f"{name}/", f"../{name}", name.upper(), "x" * 300))
            members[at] = other, content, compression
        elif luck < 0.95:
            members[at] = name, content * rng.choice((2, 100)), zipfile.ZIP_DEFLATED
        else:
            members[at] = name, content, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content, compression in members:
                archive.writestr(name, content, compression)
        return buffer.getvalue()

    return damage
