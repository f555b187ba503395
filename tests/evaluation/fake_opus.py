"""Stands in for opus-tools where that is not installed: programs that round samples, called as opusenc and opusdec are.

The lower the bit rate, the coarser the rounding. Pages are those of Ogg: a head, comments, then one packet of 8-bit
samples to a page, so that the bits of a recording are known.
"""

import sys
from pathlib import Path

VERSION = "opus-tools 9.8 (using libopus 7.6)"
PAGE_SAMPLES = 250

_ENCODER = """#!{python}
import io, struct, sys, wave
if "--version" in sys.argv:
    sys.exit(print("opusenc {version}\\nCopyright"))
assert sys.argv[-2:] == ["-", "-"] and "--quiet" in sys.argv
step = 2 ** (18 - round(float(sys.argv[sys.argv.index("--bitrate") + 1])))
with wave.open(io.BytesIO(sys.stdin.buffer.read())) as file:
    rate, pcm = file.getframerate(), file.readframes(file.getnframes())
samples = struct.unpack(f"<{{len(pcm) // 2}}h", pcm)
coded = bytes(128 + max(-128, min(127, round(sample / step) * step // 256)) for sample in samples)
packets = [struct.pack("<II", rate, len(coded)), b"comments"]
packets += [coded[start : start + {page}] for start in range(0, len(coded), {page})]
for packet in packets:
    sys.stdout.buffer.write(b"OggS" + bytes(22) + bytes([1, len(packet)]) + packet)
"""
_DECODER = """#!{python}
import struct, sys
if "--version" in sys.argv:
    sys.exit(print("opusdec {version}\\nCopyright"))
assert sys.argv[-2:] == ["-", "-"] and "--float" in sys.argv
stream, packets = sys.stdin.buffer.read(), []
while stream:
    packets.append(stream[28 : 28 + stream[27]])
    stream = stream[28 + stream[27] :]
rate, _ = struct.unpack("<II", packets[0])
coded = b"".join(packets[2:])
samples = [(coded[time * rate // 48000] - 128) / 128 for time in range(len(coded) * 48000 // rate)]
sys.stdout.buffer.write(struct.pack(f"<{{len(samples)}}f", *samples))
"""


def write(folder: Path) -> Path:
    """Fills a folder with the two programs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in (("opusenc", _ENCODER), ("opusdec", _DECODER)):
        path = folder / name
        path.write_text(program.format(python=sys.executable, version=VERSION, page=PAGE_SAMPLES))
        path.chmod(0o755)
    return folder
