"""Opus by opus-tools: what comes back is as long as what was given and not delayed, and its bits are counted."""

import shutil
import stat

import numpy as np
import pytest

from audiolm_jax.audio import Waveform
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.sound.opus import find_opus
from audiolm_jax.evaluation.sound.signal_quality import si_sdr_db
from tests.evaluation import fake_opus
from tests.evaluation.speechlike import RATE_HZ, speechlike


@pytest.fixture
def opus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(fake_opus.write(tmp_path / "bin")))
    return find_opus()


def program(folder, name, lines):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_rate_and_length_come_back_and_bits_are_those_of_the_packets(opus):
    assert opus.version == fake_opus.VERSION
    original = Waveform(speechlike(1.0)[:15_998], RATE_HZ)
    low, high = opus.through(original, 6_000), opus.through(original, 9_000)
    for made in (low, high):
        assert made.waveform.sample_rate_hz == RATE_HZ and len(made.waveform.samples) == 15_998
        assert made.bits == 8 * 15_998  # a byte for each sample; head, comments and pages do not count
    errors = [np.std(made.waveform.samples - original.samples) for made in (low, high)]
    assert errors[1] < 0.5 * errors[0]


def test_without_the_programs_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_opus() is None
    program(tmp_path, "opusenc", "echo opusenc")
    assert find_opus() is None


def test_programs_that_fail_are_told_in_one_line(tmp_path, monkeypatch, opus):
    sound = Waveform(speechlike(0.2), RATE_HZ)
    program(tmp_path / "bin", "opusenc", "echo 'libopus.so.0: cannot open\nshared object' >&2; exit 127")
    with pytest.raises(UserError, match=r"opusenc failed \(libopus.so.0: cannot open shared object\); install opus"):
        opus.through(sound, 6_000)
    with pytest.raises(UserError, match="opusenc failed"):
        find_opus()
    fake_opus.write(tmp_path / "bin")
    program(tmp_path / "bin", "opusdec", "/bin/cat >/dev/null; printf '%08000d' 0")
    with pytest.raises(UserError, match="gave 667 samples for 3200; install opus-tools again"):
        opus.through(sound, 6_000)


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100])
def test_opus_itself_keeps_length_and_time(rate_hz):
    if shutil.which("opusenc") is None or shutil.which("opusdec") is None:
        pytest.skip("opus-tools is not installed")
    samples = np.interp(np.arange(3 * rate_hz + 17) / rate_hz, np.arange(4 * RATE_HZ) / RATE_HZ, speechlike(4.0))
    original = Waveform(samples.astype(np.float32), rate_hz)
    opus = find_opus()
    assert "libopus" in opus.version
    fine = opus.through(original, 96_000).waveform.samples
    assert len(fine) == len(original.samples)
    shifted = {shift: si_sdr_db(original.samples[100:-100], np.roll(fine, shift)[100:-100]) for shift in range(-9, 10)}
    assert max(shifted, key=shifted.get) == 0 and shifted[0] > 15
    coarse = opus.through(original, 6_000)
    assert len(coarse.waveform.samples) == len(original.samples)
    assert 4_000 < coarse.bits / original.seconds < 8_000
    assert np.array_equal(coarse.waveform.samples, opus.through(original, 6_000).waveform.samples)
