"""Reading, resampling and writing of sound."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiolm_jax.audio import PEAK_LIMIT, Waveform, audio_files, cut, encode_audio, read_audio, resample, write_audio
from audiolm_jax.errors import UserError


def tone(seconds=1.0, rate_hz=16_000, hz=440.0, amplitude=0.5):
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def main_frequency_hz(samples, rate_hz):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * rate_hz / len(samples)


ENCODINGS = [
    ("wav", "WAV", "PCM_U8", 2e-2),
    ("wav", "WAV", "PCM_16", 1e-4),
    ("wav", "WAV", "PCM_24", 1e-6),
    ("wav", "WAV", "PCM_32", 1e-6),
    ("wav", "WAV", "FLOAT", 1e-7),
    ("wav", "WAV", "DOUBLE", 1e-7),
    ("wav", "WAVEX", "PCM_16", 1e-4),
    ("flac", "FLAC", "PCM_16", 1e-4),
    ("flac", "FLAC", "PCM_24", 1e-6),
]


@pytest.mark.parametrize("suffix,container,subtype,tolerance", ENCODINGS)
def test_lossless_formats_read_back_as_written(tmp_path, suffix, container, subtype, tolerance):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(), 16_000, format=container, subtype=subtype)
    waveform = read_audio(path)
    assert waveform.sample_rate_hz == 16_000
    assert waveform.samples.dtype == np.float32
    np.testing.assert_allclose(waveform.samples, tone(), atol=tolerance)


@pytest.mark.parametrize(
    "suffix,container,subtype",
    [("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("mp3", "MP3", "MPEG_LAYER_III")],
)
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_lossy_formats_keep_length_and_pitch(tmp_path, suffix, container, subtype, rate_hz):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(rate_hz=rate_hz), rate_hz, format=container, subtype=subtype)
    waveform = read_audio(path, 16_000)
    assert waveform.sample_rate_hz == 16_000
    assert waveform.seconds == pytest.approx(1.0, abs=0.08)
    assert main_frequency_hz(waveform.samples, 16_000) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("suffix,container", [("wav", "WAV"), ("flac", "FLAC"), ("mp3", "MP3")])
def test_stereo_at_44_1_khz_becomes_mono_at_the_wanted_rate(tmp_path, suffix, container):
    path = tmp_path / f"stereo.{suffix}"
    left = tone(rate_hz=44_100)
    soundfile.write(path, np.stack([left, 0.5 * left], axis=1), 44_100, format=container)
    waveform = read_audio(path, 16_000)
    assert waveform.seconds == pytest.approx(1.0, abs=0.08)
    assert np.max(np.abs(waveform.samples)) == pytest.approx(0.375, abs=0.02)
    assert main_frequency_hz(waveform.samples, 16_000) == pytest.approx(440, abs=3)


def test_five_channels_are_averaged(tmp_path):
    path = tmp_path / "five.wav"
    channels = np.stack([tone() * (index - 2) / 4 + 0.1 for index in range(5)], axis=1)
    soundfile.write(path, channels, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path).samples, np.full(16_000, 0.1), atol=1e-6)


def test_content_decides_the_format_not_the_name(tmp_path):
    path = tmp_path / "really_flac.mp3"
    soundfile.write(path, tone(), 16_000, format="FLAC")
    assert len(read_audio(path).samples) == 16_000


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.raw", "a"])
@pytest.mark.parametrize("content", [b"", b"a", b"These are words, not sound.\n" * 100, b"ID3 nothing", bytes(5000)])
def test_empty_and_text_files_give_one_line_that_names_the_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_audio(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_missing_file_and_folder_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_audio(tmp_path / "nothing.wav")
    with pytest.raises(UserError, match="folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    "suffix,container,subtype",
    [
        ("wav", "WAV", "PCM_16"),
        ("wav", "WAV", "PCM_24"),
        ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"),
        ("opus", "OGG", "OPUS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_truncated_files_are_refused(tmp_path, capfd, suffix, container, subtype, kept):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, tone(seconds=2.0), 16_000, format=container, subtype=subtype)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError) as raised:
        read_audio(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == "", "the decoder printed warnings of its own"


def test_header_without_samples_is_refused(tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(0, np.float32), 16_000)
    with pytest.raises(UserError, match="no audio samples"):
        read_audio(path)


def test_wav_of_a_stream_without_known_length_is_read(tmp_path):
    path = tmp_path / "streamed.wav"
    data = bytearray(encode_audio(Waveform(tone(), 16_000)))
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff" * 4
    path.write_bytes(bytes(data))
    assert len(read_audio(path).samples) == 16_000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path, bad):
    path = tmp_path / "bad.wav"
    samples = tone()
    samples[100] = bad
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match="NaN"):
        read_audio(path)
    with pytest.raises(UserError, match="NaN"):
        write_audio(tmp_path / "out.wav", Waveform(samples, 16_000))
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("suffix", ["wav", "flac", "WAV"])
def test_loud_samples_are_scaled_and_keep_their_shape(tmp_path, suffix):
    path = tmp_path / f"loud.{suffix}"
    write_audio(path, Waveform(tone(amplitude=3.0), 16_000))
    info = soundfile.info(path)
    assert info.subtype == "PCM_16" and info.samplerate == 16_000 and info.channels == 1
    np.testing.assert_allclose(read_audio(path).samples, tone(amplitude=PEAK_LIMIT), atol=1e-3)


def test_quiet_samples_are_written_as_they_are(tmp_path):
    write_audio(tmp_path / "quiet.wav", Waveform(tone(amplitude=0.01), 16_000))
    np.testing.assert_allclose(read_audio(tmp_path / "quiet.wav").samples, tone(amplitude=0.01), atol=4e-5)


def test_write_makes_folders_replaces_whole_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "a.wav"
    write_audio(path, Waveform(tone(), 16_000))
    write_audio(path, Waveform(tone(seconds=0.5), 16_000))
    assert read_audio(path).seconds == 0.5
    assert os.listdir(path.parent) == ["a.wav"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write_audio(path, Waveform(tone(), 16_000))

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_audio(path, Waveform(tone(seconds=0.5), 16_000))
    assert read_audio(path).seconds == 1.0
    assert os.listdir(tmp_path) == ["a.wav"]


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UserError, match=".wav or .flac"):
        write_audio(tmp_path / "a.mp3", Waveform(tone(), 16_000))


@pytest.mark.parametrize("num_samples", [1, 2, 319, 44_100, 44_101])
@pytest.mark.parametrize("rates", [(44_100, 16_000), (8_000, 16_000), (22_050, 16_000), (16_000, 24_000)])
def test_resampled_length_is_a_rule(num_samples, rates):
    old_hz, new_hz = rates
    waveform = resample(Waveform(np.zeros(num_samples, np.float32), old_hz), new_hz)
    assert len(waveform.samples) == -(-num_samples * new_hz // old_hz)
    assert waveform.sample_rate_hz == new_hz


def test_resampling_removes_what_the_new_rate_cannot_hold():
    high = Waveform(tone(rate_hz=44_100, hz=12_000.0), 44_100)
    assert np.max(np.abs(resample(high, 16_000).samples[1_000:-1_000])) < 1e-3


def test_waveform_refuses_wrong_shapes_and_rates():
    with pytest.raises(ValueError, match="mono"):
        Waveform(np.zeros((2, 10)), 16_000)
    for rate in (0, -16_000, 16_000.5):
        with pytest.raises(ValueError, match="sample_rate_hz"):
            Waveform(np.zeros(10), rate)
    assert Waveform([0, 0.5], 2).samples.dtype == np.float32
    assert Waveform(np.zeros(8_000), 16_000).seconds == 0.5


def test_audio_files_are_found_below_in_order(tmp_path):
    for name in ("b/z.wav", "b/a.FLAC", "a/deep/er/x.opus", "c.mp3", "d.txt", ".hidden/e.wav", ".f.wav", "g.ogg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    expected = ["a/deep/er/x.opus", "b/a.FLAC", "b/z.wav", "c.mp3", "g.ogg"]
    assert [str(path.relative_to(tmp_path)) for path in audio_files(tmp_path)] == expected
    assert audio_files(str(tmp_path / "a"))[0] == Path(tmp_path, "a/deep/er/x.opus")
    with pytest.raises(UserError, match="not a folder"):
        audio_files(tmp_path / "nowhere")


def test_encoded_bytes_are_a_complete_file():
    data = encode_audio(Waveform(tone(), 16_000))
    assert soundfile.info(io.BytesIO(data)).frames == 16_000


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_notice_travels_in_the_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, Waveform(tone(), 16_000), copyright_notice="CC-BY-4.0")
    assert soundfile.SoundFile(path).copyright == "CC-BY-4.0"
    np.testing.assert_allclose(read_audio(path).samples, tone(), atol=4e-5)


def test_cut_takes_the_beginning():
    waveform = Waveform(tone(seconds=1.0), 16_000)
    assert cut(waveform, 0.25).seconds == 0.25
    assert cut(waveform, 5.0).seconds == 1.0 and cut(waveform, None) is waveform
