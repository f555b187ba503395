"""Damaged and foreign files: one line that names the file, in bounded time and memory."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from audiolm_jax.audio import decode_audio, read_audio, read_header, read_ranges
from audiolm_jax.audio.formats.mpeg_frame import header_at
from audiolm_jax.audio.source import Source
from audiolm_jax.errors import UserError
from tests.audio.sound_files import (
    file_bytes,
    mp3_frames,
    ogg_pages,
    tone,
    variable_mp3,
    with_flac_length,
    with_number,
    with_ogg_checksum,
)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
WAV = file_bytes(tone())
FLAC = file_bytes(tone(), container="FLAC")


def refusal(path, data: bytes, readers=(read_audio, read_header)) -> str:
    """What all readers say of a file, without its name."""
    path.write_bytes(data)
    told = set()
    for read in readers:
        with pytest.raises(UserError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path} ") and "\n" not in str(raised.value)
        told.add(str(raised.value).removeprefix(f"{path} "))
    assert len(told) == 1
    return told.pop()


@pytest.mark.parametrize("missing", [1, 3_000])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "NIST"])
def test_truncated_files_are_refused_by_their_headers(tmp_path, container, missing):
    data = file_bytes(tone(), container=container, subtype="PCM_16")
    assert refusal(tmp_path / "x", data[:-missing]).startswith("is cut short")


def test_big_endian_wav_that_is_cut_short(tmp_path):
    assert refusal(tmp_path / "x.wav", file_bytes(tone(), endian="BIG")[:-1]).startswith("is cut short")


@pytest.mark.parametrize("size", [32_001, 100_000, 2**31 - 2**17, 3 * 10**9])
def test_a_size_that_no_pipe_leaves_is_a_cut(tmp_path, size):
    assert refusal(tmp_path / "x.wav", with_number(WAV, WAV.index(b"data") + 4, size)).startswith("is cut short")


def test_au_whose_samples_begin_in_its_header(tmp_path):
    data = file_bytes(tone(), container="AU", subtype="PCM_16")
    assert "within its header" in refusal(tmp_path / "x.au", with_number(data, 4, 16, ">I"))


def test_an_empty_recording_is_not_taken_for_one_from_a_pipe(tmp_path):
    empty = file_bytes(np.zeros(0, np.float32)) + b"LIST\x04\x00\x00\x00abcd"
    assert refusal(tmp_path / "x.wav", with_number(empty, 4, len(empty) - 8)).startswith("holds no audio samples")


@pytest.mark.parametrize("subtype, seconds", [("VORBIS", 12.0), ("OPUS", 4.0)])
def test_ogg_cut_at_a_page(tmp_path, subtype, seconds):
    pages = ogg_pages(file_bytes(tone(seconds), container="OGG", subtype=subtype))
    assert len(pages) >= 4
    assert refusal(tmp_path / "x.ogg", b"".join(pages[:-1])).startswith("is cut short")
    assert refusal(tmp_path / "x.ogg", b"".join(pages)[:-1]).startswith("is cut short")


def test_ogg_with_pages_missing(tmp_path):
    pages = ogg_pages(file_bytes(tone(20.0), container="OGG", subtype="VORBIS"))
    path = tmp_path / "x.ogg"
    told = refusal(path, b"".join(pages[:3] + pages[4:]), (read_audio,))
    assert told.startswith("is cut short or damaged")
    turned = b"".join([*pages[:3], pages[4], pages[3], *pages[5:]])
    assert "count their samples backwards" in refusal(path, turned)
    assert "broken" in refusal(path, b"".join(pages[:3]) + bytes(100) + b"".join(pages[3:]))


def test_ogg_streams_put_together(tmp_path):
    data = file_bytes(tone(), container="OGG", subtype="VORBIS")
    assert "one after another" in refusal(tmp_path / "x.ogg", data + data)


def test_ogg_that_announces_what_cannot_be(tmp_path):
    pages = ogg_pages(file_bytes(tone(20.0), container="OGG", subtype="VORBIS"))
    pages[-1] = with_ogg_checksum(with_number(pages[-1], 6, 2**60, "<q"))
    assert "announces" in refusal(tmp_path / "x.ogg", b"".join(pages))
    pages[-1] = with_ogg_checksum(with_number(pages[-1], 6, 2**20, "<q"))
    assert "after sample" in refusal(tmp_path / "x.ogg", b"".join(pages), (read_audio,))


def test_flac_that_announces_what_cannot_be(tmp_path):
    assert "announces 68719476735 samples" in refusal(tmp_path / "x.flac", with_flac_length(FLAC, 2**36 - 1))
    for announced in (16_001, 2**26):
        told = refusal(tmp_path / "x.flac", with_flac_length(FLAC, announced), (read_audio,))
        assert told.startswith("is cut short or damaged: nothing comes after sample 16000")


def test_flac_with_a_wrong_bit_or_a_cut(tmp_path):
    place = len(FLAC) // 2
    for data in (FLAC[:place] + bytes([FLAC[place] ^ 4]) + FLAC[place + 1 :], FLAC[:place]):
        assert refusal(tmp_path / "x.flac", data, (read_audio,)).startswith("is cut short or damaged")
        unknown = with_flac_length(data, 0)
        assert refusal(tmp_path / "x.flac", unknown).startswith("is cut short or damaged")
    assert refusal(tmp_path / "x.flac", FLAC[:30]).startswith("is cut short")


def test_mp3_that_ends_before_its_tag_says(tmp_path):
    data = variable_mp3(2.0)
    assert refusal(tmp_path / "x.mp3", data[:-1]).startswith("is cut short")
    assert refusal(tmp_path / "x.mp3", b"".join(mp3_frames(data)[:-1])).startswith("is cut short")
    at = max(data.find(b"Xing"), data.find(b"Info"))
    assert refusal(tmp_path / "x.mp3", with_number(data, at + 8, 2**32 - 1, ">I")).startswith("is cut short")


@pytest.mark.parametrize("rate_hz, channels", [(44_100, 1), (44_100, 2), (22_050, 1), (22_050, 2)])
def test_mp3_with_a_frame_that_is_longer_than_its_bytes(tmp_path, rate_hz, channels):
    frames = mp3_frames(variable_mp3(2.0, rate_hz, channels))[1:]
    # All bits of all lengths, in one frame; how it begins stays.
    side_bytes = header_at(frames[9], 0).side_bytes
    wild = frames[9][:5] + b"\xff" * (side_bytes - 1) + frames[9][4 + side_bytes :]
    told = refusal(tmp_path / "x.mp3", b"".join([*frames[:9], wild, *frames[10:]]))
    assert "is longer than its bytes" in told


def test_mp3_with_a_hole_or_another_rate(tmp_path):
    frames = mp3_frames(variable_mp3(2.0))
    other = mp3_frames(variable_mp3(1.0, rate_hz=48_000))
    assert "3 bytes between its MP3 frames" in refusal(
        tmp_path / "x.mp3", b"".join(frames[1:20]) + b"abc" + b"".join(frames[20:])
    )
    assert "changes its rate" in refusal(tmp_path / "x.mp3", b"".join(frames[1:20] + other[1:]))


def test_big_files_of_something_else_are_refused_by_their_beginning(tmp_path):
    """Holes take no room on the disk; whoever reads them whole takes gigabytes of memory or minutes."""
    files = {"zeros.wav": b"RIFF" + bytes(4) + b"WAVE", "weights.mp3": bytes(range(256)), "hole.mp3": b""}
    for name, head in files.items():
        path = tmp_path / name
        path.write_bytes(head)
        os.truncate(path, 2**31 if head else 2**27)
        for read in (read_header, read_audio):
            with pytest.raises(UserError, match=name):
                read(path)


def test_wild_floats_are_refused(tmp_path):
    path = tmp_path / "x.wav"
    huge = np.full((16_000, 2), 3e38, np.float32)
    assert "up to 3e+38" in refusal(path, file_bytes(huge, subtype="FLOAT"), (read_audio,))
    assert "up to 10000" in refusal(path, file_bytes(tone() * 20_000, subtype="FLOAT"), (read_audio,))
    wide = np.round(tone() * 2**20).astype(np.float32)
    assert "full scale is 1" in refusal(path, file_bytes(wide, subtype="FLOAT"), (read_audio,))
    for bad in (np.nan, np.inf):
        samples = tone()
        samples[12_345] = bad
        path.write_bytes(file_bytes(samples, subtype="FLOAT"))
        with pytest.raises(UserError, match="NaN"):
            read_ranges(path, ((12_000, 13_000),))
        assert len(read_ranges(path, ((0, 1_000),)).samples) == 1_000


def test_containers_of_other_things_are_no_audio(tmp_path):
    video, picture = b"RIFF\x20\x00\x00\x00AVI LIST" + bytes(24), b"FORM\x00\x00\x00\x20ILBM" + bytes(24)
    for data in (video, picture, bytes(range(256))):
        assert "is not audio that can be read" in refusal(tmp_path / "x.wav", data)
    mat = file_bytes(tone(), container="MAT5", subtype="PCM_16")
    assert "is not audio that can be read" in refusal(tmp_path / "x.wav", mat)


@pytest.mark.parametrize("read", [read_audio, read_header, lambda path: read_ranges(path, ((0, 1),))])
@pytest.mark.parametrize(
    "name, says",
    [
        ("a" * 5_000, "name of 5000 characters"),
        ("/dev/zero", "/dev/zero is a device"),
        ("x\0y", "cannot be opened"),
        ("/etc/hostname/x.wav", "Not a directory"),
        ("nothing.wav", "nothing.wav does not exist"),
        ("gs:/bucket/x.wav", "address as a string"),
        ("/", "folder"),
    ],
)
def test_names_that_lead_to_no_file(read, name, says):
    with pytest.raises(UserError, match=says) as raised:
        read(name)
    assert len(str(raised.value)) < 300 and "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, "16000", -5, 1.5])
def test_a_rate_that_is_none_is_refused_before_anything_is_read(rate):
    for read in (lambda: read_audio("nothing.wav", rate), lambda: read_ranges("nothing.wav", ((0, 1),), rate)):
        with pytest.raises(UserError, match="sample_rate_hz must be a positive whole number"):
            read()


@pytest.mark.parametrize("begin", [0, 100, 5_000])
def test_a_disk_that_fails_is_one_line(tmp_path, monkeypatch, begin):
    path = tmp_path / "x.wav"
    path.write_bytes(WAV)
    real = Source.read_at

    def failing(self, position, size):
        if position + size > begin:
            raise OSError(5, "Input/output error")
        return real(self, position, size)

    monkeypatch.setattr(Source, "read_at", failing)
    with pytest.raises(UserError, match="x.wav cannot be read: Input/output error"):
        read_audio(path)


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(WAV,))
    writer.start()
    assert len(read_audio(tmp_path / "pipe").samples) == 16_000
    writer.join()


def test_the_decoder_prints_nothing_and_others_still_can(capfd):
    frames = mp3_frames(variable_mp3(3.0))
    rng = np.random.default_rng(0)
    for _ in range(5):
        broken = [frame[:40] + rng.bytes(len(frame) - 40) if rng.random() < 0.3 else frame for frame in frames[1:]]
        try:
            decode_audio("x.mp3", b"".join(broken))
        except UserError:
            pass
        os.write(2, b"a line of somebody else\n")
    assert capfd.readouterr().err == "a line of somebody else\n" * 5


def test_lines_of_other_threads_pass_while_mp3_is_decoded(capfd):
    data = variable_mp3(3.0)
    decoders = [threading.Thread(target=decode_audio, args=("x.mp3", data)) for _ in range(3)]
    for thread in decoders:
        thread.start()
    for number in range(200):
        os.write(2, b"line %d\n" % number)
    for thread in decoders:
        thread.join()
    assert capfd.readouterr().err == "".join(f"line {number}\n" for number in range(200))


def test_a_process_that_is_forked_meanwhile_has_its_stderr():
    code = (
        "import os, sys\n"
        "from audiolm_jax.audio.formats import decoder_messages\n"
        "with decoder_messages.dropped():\n"
        "    os.write(2, b'Warning: of the decoder\\n')\n"
        "    if os.fork() == 0:\n"
        "        os.write(2, b'child\\n')\n"
        "        with decoder_messages.dropped(): os.write(2, b'[src/libmpg123/x.c] error\\n')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "os.write(2, b'parent\\n')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert result.stderr == "child\nparent\n"


def test_a_small_file_takes_little_memory(tmp_path):
    """The worst of small files, each in a process of its own: an hour of silence, and sizes that are not true."""
    silence = file_bytes(np.zeros(2**26, np.int16), 44_100, "FLAC")
    assert len(silence) < 2**20
    pages = ogg_pages(file_bytes(tone(4.0), container="OGG", subtype="OPUS"))
    pages[-1] = with_ogg_checksum(with_number(pages[-1], 6, 2**26 - 1, "<q"))
    files = {
        "silence.flac": silence,
        "unknown.flac": with_flac_length(silence, 0),
        "huge.flac": with_flac_length(FLAC, 2**26),
        "x.opus": b"".join(pages),
        "channels.wav": with_number(WAV, 22, 1_024, "<H"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        code = (
            "import resource, sys\n"
            "from audiolm_jax.audio import read_audio\n"
            "from audiolm_jax.errors import UserError\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try: read_audio(sys.argv[1])\n"
            "except UserError: pass\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) < 450, name
