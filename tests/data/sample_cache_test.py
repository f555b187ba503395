"""A crop that is read alone is the crop of the whole recording, whatever its rate, format and parts."""

import dataclasses

import numpy as np
import pytest
import soundfile

from audiolm_jax.data.corpora import sample_cache
from audiolm_jax.data.corpora.sample_cache import SampleCache
from audiolm_jax.data.corpora.utterances import Utterance
from audiolm_jax.data.feed.crops import crop_bounds, resampled_length

RATE_HZ = 16_000
# Between one decoding of a whole file and one of a part: a step of int16, where rounding falls to the other side.
STEP = 1


def write_noise(path, rate_hz, seconds=3.0, channels=1, **settings):
    """A recording without silence or pattern, which is different at every sample and wherever a filter looks."""
    shape = (int(rate_hz * seconds) + 137, channels)
    samples = np.random.default_rng(rate_hz).normal(scale=0.2, size=shape).clip(-1, 1)
    soundfile.write(path, samples, rate_hz, **settings)
    return Utterance(path, "s", path.stem)


def crops(utterance, crop_samples=2_000):
    """Pairs: a crop read alone, and the same one cut out of the whole, from the first to the last one there is."""
    for uniform in (0.0, 1e-4, 0.013, 0.31, 0.5, 0.77, 0.99, 1 - 2**-53):
        alone = SampleCache(RATE_HZ, 0).read_crop(utterance, crop_samples, uniform)
        whole = SampleCache(RATE_HZ, 0).read(utterance)
        yield alone, whole[slice(*crop_bounds(len(whole), crop_samples, uniform))]


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_at_one_rate_a_crop_is_that_of_the_whole_sample_for_sample(tmp_path, container):
    utterance = write_noise(tmp_path / "x", RATE_HZ, channels=2, format=container)
    for alone, expected in crops(utterance):
        assert alone.dtype == np.int16 and alone.shape == (2_000,)
        np.testing.assert_array_equal(alone, expected)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000])
def test_at_another_rate_a_crop_is_that_of_the_whole_resampled_recording(tmp_path, rate_hz):
    utterance = write_noise(tmp_path / "x.wav", rate_hz)
    num_different = 0
    for alone, expected in crops(utterance):
        assert alone.shape == expected.shape == (2_000,)
        difference = np.abs(alone.astype(np.int32) - expected)
        assert difference.max() <= STEP
        num_different += np.count_nonzero(difference)
    # soxr's own noise, 0.03 of a step, moves few of them across a half.
    assert num_different <= 0.01 * 8 * 2_000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_parts_of_a_file_are_cropped_as_if_they_were_one_recording(tmp_path, rate_hz):
    utterance = write_noise(tmp_path / "x.flac", rate_hz)
    ranges = ((100, 9_000), (9_500, 9_600), (20_001, 40_000))
    for known_hz in (None, rate_hz):
        part = dataclasses.replace(utterance, ranges=ranges, sample_rate_hz=known_hz)
        for alone, expected in crops(part):
            assert np.abs(alone.astype(np.int32) - expected).max() <= (0 if rate_hz == RATE_HZ else STEP)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.05, 0.25])
def test_a_recording_shorter_than_the_crop_is_taken_whole(tmp_path, rate_hz, seconds):
    utterance = write_noise(tmp_path / "x.wav", rate_hz, seconds)
    for alone, expected in crops(utterance, crop_samples=8_000):
        assert len(alone) == len(expected) == resampled_length(int(rate_hz * seconds) + 137, rate_hz, RATE_HZ)
        assert np.abs(alone.astype(np.int32) - expected).max() <= STEP


def test_little_more_than_the_crop_is_read(tmp_path, monkeypatch):
    read = []
    real = sample_cache.read_utterance
    monkeypatch.setattr(sample_cache, "read_utterance", lambda part, hz: read.append(part.ranges) or real(part, hz))
    utterance = write_noise(tmp_path / "x.wav", 44_100, seconds=20)
    for uniform in (0.0, 0.4, 0.9999):
        SampleCache(RATE_HZ, 0).read_crop(utterance, RATE_HZ, uniform)
    lengths = [stop - start for ((start, stop),) in read]
    assert all(44_100 <= length < 1.1 * 44_100 for length in lengths[1:]) and 44_100 <= lengths[0] < 1.05 * 44_100


def test_headers_are_read_once_and_no_more_of_them_than_the_memory_holds(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(sample_cache, "_HEADERS_PER_CHUNK", 2)
    real = sample_cache.read_header
    monkeypatch.setattr(sample_cache, "read_header", lambda path: opened.append(path) or real(path))
    utterances = [write_noise(tmp_path / f"{n}.wav", 8_000, seconds=1.0) for n in range(10)]
    num_bytes = 2 * resampled_length(8_137, 8_000, RATE_HZ)
    cache = SampleCache(RATE_HZ, 3 * num_bytes)
    assert not cache.holds(utterances) and len(opened) == 4
    assert not cache.holds(utterances) and len(opened) == 4
    assert cache.holds(utterances[:3]) and not cache.holds(utterances[:4])
    cache.read_crop(utterances[0], 100, 0.5)
    assert len(opened) == 4
    # Where the list of the corpus has rate and length, no header is read.
    known = [dataclasses.replace(u, ranges=((0, 8_137),), sample_rate_hz=8_000) for u in utterances]
    opened.clear()
    assert SampleCache(RATE_HZ, 10 * num_bytes).holds(known) and not SampleCache(RATE_HZ, 9 * num_bytes).holds(known)
    assert opened == []


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("the decoder has given up"), OSError(5, "I/O error")])
def test_whatever_a_decoder_does_is_told_once_and_gives_none(tmp_path, monkeypatch, capsys, error):
    good, bad = (write_noise(tmp_path / name, RATE_HZ) for name in ("good.wav", "bad.wav"))
    real = sample_cache.read_utterance

    def fail(utterance, sample_rate_hz):
        if utterance.path == bad.path:
            raise error
        return real(utterance, sample_rate_hz)

    monkeypatch.setattr(sample_cache, "read_utterance", fail)
    cache = SampleCache(RATE_HZ, 1 << 20)
    assert cache.read(bad) is None and cache.read_crop(bad, 100, 0.5) is None and cache.read(bad) is None
    assert cache.read(good) is not None and cache.holds([good, bad])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith(f"left out: {bad.path} cannot be read (")
