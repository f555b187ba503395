"""A folder of audio: each real folder once, names that are not UTF-8, and kinds of files that cannot be decoded."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_jax.audio import AUDIO_SUFFIXES, audio_files, read_audio, read_header
from audiolm_jax.audio import folder as audio_folder
from audiolm_jax.audio.folder import find_audio

FORMATS = {
    ".aif": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "ULAW"),
    ".aiff": ("AIFF", "FLOAT"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "ALAC_16"),
    ".oga": ("OGG", "VORBIS"),
    ".rf64": ("RF64", "PCM_16"),
    ".sph": ("NIST", "ULAW"),
    ".w64": ("W64", "PCM_24"),
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def names_in(folder, **_):
    return [path.relative_to(folder).as_posix() for path in audio_files(folder)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_libsndfile_decodes_is_taken(tmp_path, suffix):
    assert suffix in AUDIO_SUFFIXES
    container, subtype = FORMATS[suffix]
    samples = 0.5 * np.sin(np.arange(4_000) / 9).astype(np.float32)
    soundfile.write(tmp_path / f"x{suffix}", samples, 8_000, format=container, subtype=subtype)
    (path,) = audio_files(tmp_path)
    waveform = read_audio(path)
    assert len(waveform.samples) == 4_000 and read_header(path) == (4_000, 8_000)
    tolerance = 0.06 if subtype in ("ULAW", "VORBIS") else 1e-4
    np.testing.assert_allclose(waveform.samples, samples, atol=tolerance)


def test_what_it_does_not_decode_is_told_once_with_its_number_and_advice(tmp_path, capsys):
    touch(tmp_path, "a/x.m4a", "a/y.M4A", "b/z.wma", "b/w.wav", ".hidden.m4a", "notes.txt")
    assert names_in(tmp_path) == names_in(tmp_path) == ["b/w.wav"]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line and "2 .m4a, 1 .wma; convert them to FLAC" in line


def test_each_real_folder_is_read_once_under_its_own_name(tmp_path):
    outside = touch(tmp_path / "outside", "d/deep/x.wav", "e/y.wav")
    root = touch(tmp_path / "speech", "b/1.wav", "c/2.wav")
    (root / "a").symlink_to("b")  # sorts before the folder that it leads to
    (root / "b/self").symlink_to(".")
    (root / "b/up").symlink_to("..")
    (root / "c/round").symlink_to(root)
    (root / "parent").symlink_to(tmp_path)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    (root / "circle").symlink_to("circle")
    assert names_in(root) == ["b/1.wav", "c/2.wav"]
    # What lies elsewhere is read too, under the first of its names, and links in it are followed likewise.
    (root / "m").symlink_to(outside / "d")
    (root / "n").symlink_to(outside)
    (outside / "d/back").symlink_to(outside / "e")
    (outside / "d/home").symlink_to(root)
    assert names_in(root) == ["b/1.wav", "c/2.wav", "m/deep/x.wav", "n/e/y.wav"]
    # The folder itself may be named by a link.
    (tmp_path / "name").symlink_to(root)
    assert names_in(tmp_path / "name") == ["b/1.wav", "c/2.wav", "m/deep/x.wav", "n/e/y.wav"]


def test_names_that_are_not_utf8_and_what_is_no_file_are_passed_over_with_a_reason(tmp_path, capsys):
    root = touch(tmp_path, "good/ä.wav", "good/b.wav")
    bad = os.fsencode(root)
    for name in (b"good/caf\xe9.wav", b"caf\xe9/x.wav", b"caf\xe9/notes.txt"):
        os.makedirs(os.path.dirname(os.path.join(bad, name)), exist_ok=True)
        with open(os.path.join(bad, name), "wb"):
            pass
    os.mkfifo(root / "good/pipe.wav")
    (root / "good/gone.wav").symlink_to("nothing.wav")
    assert names_in(root) == ["good/b.wav", "good/ä.wav"]
    told = capsys.readouterr().err
    assert told.encode().decode().splitlines() == [
        rf"left out: {root}/caf\xe9/x.wav: its path is not UTF-8; rename it",
        rf"left out: {root}/good/caf\xe9.wav: its path is not UTF-8; rename it",
        f"left out: {root}/good/gone.wav: it is a link to a file that is not there",
        f"left out: {root}/good/pipe.wav: it is no file",
    ]


def test_many_that_are_passed_over_are_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(audio_folder, "_MAX_LINES", 2)
    for number in range(5):
        (tmp_path / f"{number}.wav").symlink_to("nothing")
    assert find_audio(tmp_path, AUDIO_SUFFIXES).files == () and capsys.readouterr().err == ""
    assert audio_files(tmp_path) == []
    assert capsys.readouterr().err.splitlines()[2] == f"left out: 3 more below {tmp_path}"


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_read(tmp_path, monkeypatch, capsys):
    root = touch(tmp_path, "a/x.wav", "b/y.wav")
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names_in(root) == ["b/y.wav"]
    assert capsys.readouterr().err == f"left out: {root}/a: the folder cannot be listed (Permission denied)\n"
