"""What a Waveform takes, scales and refuses."""

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.errors import UserError


@pytest.mark.parametrize(
    "dtype, lowest, middle", [(np.int8, -128, 64), (np.uint8, 0, 192), (np.int16, -(2**15), 2**14),
                              (np.int32, -(2**31), 2**30)],
)  # fmt: skip
def test_integers_are_scaled_by_their_range(dtype, lowest, middle):
    samples = Waveform(np.array([lowest, middle], dtype), 16_000).samples
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, [-1.0, 0.5], atol=1e-7)


def test_floats_of_any_width_stay_as_they_are():
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(Waveform(np.array([0.5, -2.0], dtype), 16_000).samples, [0.5, -2.0])
    samples = np.zeros(3, np.float32)
    assert Waveform(samples, 16_000).samples is samples, "float32 is not copied"


@pytest.mark.parametrize(
    "samples",
    [
        np.array([True, False]),
        np.array([1j, 0]),
        np.array([1, 2], np.int64),
        np.array([1, 2], np.uint16),
        np.array(["a", "b"]),
        np.array([None, 1.0]),
        [[0.0], [0.0, 1.0]],
        0.5,
        None,
        np.array([0.0, np.nan]),
        np.array([np.inf, 0.0]),
        np.array([np.inf, -np.inf]),
        np.array([1e300, 0.0]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_sound_is_refused_in_one_line(samples):
    with pytest.raises(UserError) as raised:
        Waveform(samples, 16_000)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0, -1, 1.5, "16000", None, True, float("nan"), float("inf"), [16_000]])
def test_rates_that_are_none_are_refused(rate):
    for make in (lambda: Waveform(np.zeros(1), rate), lambda: resample(Waveform(np.zeros(1), 8_000), rate)):
        with pytest.raises(UserError, match="sample_rate_hz must be a positive whole number"):
            make()


def test_rates_of_numpy_are_rates():
    for rate in (np.int64(16_000), np.float32(16_000), 16_000.0):
        waveform = Waveform(np.zeros(1), rate)
        assert waveform.sample_rate_hz == 16_000 and type(waveform.sample_rate_hz) is int
    with pytest.raises(UserError, match="768000"):
        resample(Waveform(np.zeros(1), 16_000), 10**9)


def test_equal_are_waveforms_of_equal_samples_and_rate():
    one = Waveform(np.array([0.0, 0.5]), 16_000)
    assert one == Waveform(np.array([0.0, 0.5], np.float32), 16_000)
    assert one != Waveform(np.array([0.0, 0.25]), 16_000)
    assert one != Waveform(np.array([0.0]), 16_000)
    assert one != Waveform(np.array([0.0, 0.5]), 8_000)
    assert one != "a waveform" and one in [one]
