"""Figures of sounds whose level, pitch and spectrum are known."""

import numpy as np
import pytest

from audiolm_jax.audio import Waveform
from audiolm_jax.evaluation.sound.sound_figures import UNITS, sound_figures

RATE_HZ = 16_000
TIME = np.arange(2 * RATE_HZ) / RATE_HZ


def figures(samples, rate_hz=RATE_HZ):
    found = sound_figures(Waveform(samples, rate_hz))
    assert set(found) == set(UNITS)
    return found


def test_silence():
    found = figures(0 * TIME)
    assert found["silent_share"] == 1 and found["level_dbfs"] < -100
    assert found["flatness"] is found["voiced_share"] is found["median_f0_hz"] is None


def test_noise():
    found = figures(0.1 * np.random.default_rng(0).normal(size=len(TIME)))
    assert abs(found["level_dbfs"] + 20) < 0.1
    # The mean logarithm of an exponential variable is minus Euler's constant.
    assert abs(found["flatness"] - np.exp(-np.euler_gamma)) < 0.03
    assert found["voiced_share"] == 0 and found["median_f0_hz"] is None and found["clipped_share"] == 0


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("f0_hz", [80, 130, 250, 330])
def test_pitch(rate_hz, f0_hz):
    time = np.arange(rate_hz) / rate_hz
    found = figures(0.1 * sum(np.cos(2 * np.pi * k * f0_hz * time + k * k) / k for k in range(1, 8)), rate_hz)
    assert found["voiced_share"] == 1
    assert abs(found["median_f0_hz"] / f0_hz - 1) < f0_hz / rate_hz  # lags are whole samples
    assert found["flatness"] < 0.05


def test_shares():
    half = np.where(TIME < 1, 1.5 * np.sin(2 * np.pi * 200 * TIME), 0)
    found = figures(np.clip(half, -1, 1))
    assert found["silent_share"] == 0.5 and found["voiced_share"] == 1
    # |1.5 sin| >= 0.98 for 1 - 2 asin(0.98 / 1.5) / pi of the time.
    assert abs(found["clipped_share"] - (1 - 2 * np.arcsin(0.98 / 1.5) / np.pi) / 2) < 0.0125  # 80 samples a period


def test_level_alone_changes_with_level():
    rng = np.random.default_rng(1)
    sound = 0.2 * np.sin(2 * np.pi * 150 * TIME) * (TIME % 0.5 < 0.3) + 0.001 * rng.normal(size=len(TIME))
    loud, quiet = figures(sound), figures(0.1 * sound)
    assert loud["level_dbfs"] - quiet["level_dbfs"] == pytest.approx(20, abs=1e-3)
    for name in ("silent_share", "flatness", "voiced_share", "median_f0_hz"):
        assert loud[name] == pytest.approx(quiet[name], rel=1e-3)


def test_too_short():
    with pytest.raises(ValueError, match="less than one frame"):
        figures(np.zeros(100))
