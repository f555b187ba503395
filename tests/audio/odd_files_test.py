"""Files that are odd, valid and common: each is read right, and its header says what is read."""

import struct

import numpy as np
import pytest
import soundfile

from audiolm_jax.audio import audio_files, read_audio, read_header, read_ranges
from tests.audio.sound_files import (
    file_bytes,
    mp3_frames,
    tone,
    variable_mp3,
    with_flac_length,
    with_number,
)

WAV = file_bytes(tone())
DATA_SIZE_AT = WAV.index(b"data") + 4


def read_everywhere(path, data: bytes):
    """The samples of a file; its header and a part of it agree with them."""
    path.write_bytes(data)
    waveform = read_audio(path)
    length = len(waveform.samples)
    assert read_header(path) == (length, waveform.sample_rate_hz)
    ranges = ((length // 3, length // 3 + 700), (0, 100), (length - 300, length))
    part = read_ranges(path, ranges)
    expected = np.concatenate([waveform.samples[start:stop] for start, stop in ranges])
    np.testing.assert_allclose(part.samples, expected, atol=1e-6)
    return waveform.samples


@pytest.mark.parametrize(
    "container, subtype",
    [(container, subtype) for container in ("WAV", "AIFF", "W64", "CAF", "AU", "RF64", "FLAC", "NIST") for subtype in
     ("PCM_16", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_32", "DWVW_16", "ALAC_16")
     if soundfile.check_format(container, subtype)],
)  # fmt: skip
@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_every_encoding_of_every_container(tmp_path, container, subtype, rate_hz):
    expected = tone(0.5, rate_hz)
    samples = read_everywhere(tmp_path / "x", file_bytes(expected, rate_hz, container, subtype=subtype))
    # Codecs of blocks may pad the last one.
    assert len(expected) <= len(samples) < len(expected) + 4_100
    # GSM 6.10 sounds like a telephone, at 8 kHz; the rest is close.
    likeness = np.corrcoef(expected, samples[: len(expected)])[0, 1]
    assert likeness > (0.8 if subtype == "GSM610" else 0.98)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_big_endian_wav(tmp_path, subtype):
    data = file_bytes(tone(), subtype=subtype, endian="BIG")
    assert data[:4] == b"RIFX"
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.wav", data), tone(), atol=0.02)


# From SoX, MPlayer and eSpeak, arecord, FFmpeg and others.
@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFF024, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_wav_from_a_pipe(tmp_path, size):
    data = with_number(WAV, DATA_SIZE_AT, size)
    data = with_number(data, 4, size + 36 & 0xFFFFFFFF)
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.wav", data), tone(), atol=1e-4)


def test_other_containers_from_a_pipe(tmp_path):
    caf = file_bytes(tone(), container="CAF", subtype="PCM_16")
    data = with_number(caf, caf.index(b"data") + 4, -1, ">q")
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.caf", data), tone(), atol=1e-4)
    wave64 = file_bytes(tone(), container="W64", subtype="PCM_16")
    data = with_number(wave64, wave64.rindex(b"data\xf3\xac\xd3\x11") + 16, 2**63 - 1, "<Q")
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.w64", data), tone(), atol=1e-4)
    au = with_number(file_bytes(tone(), container="AU", subtype="PCM_16"), 8, 2**32 - 1, ">I")
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.au", au), tone(), atol=1e-4)


def test_a_coded_block_is_not_padded_beyond_what_the_file_states(tmp_path):
    data = file_bytes(tone(1.0, 44_100), 44_100, subtype="MS_ADPCM")
    data = with_number(data, data.index(b"fact") + 8, 44_100)
    assert len(read_everywhere(tmp_path / "x.wav", data)) == 44_100


def test_flac_of_unknown_length(tmp_path):
    data = with_flac_length(file_bytes(tone(3.0), container="FLAC"), 0)
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.flac", data), tone(3.0), atol=1e-4)


def test_flac_that_announces_too_little_gives_that(tmp_path):
    data = with_flac_length(file_bytes(tone(), container="FLAC"), 15_999)
    np.testing.assert_allclose(read_everywhere(tmp_path / "x.flac", data), tone()[:15_999], atol=1e-4)


TAG_BEFORE = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)
TAG_BEHIND = b"TAG" + bytes(125)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_tags_before_and_behind(tmp_path, container):
    plain = read_everywhere(tmp_path / "plain", file_bytes(tone(), container=container))
    tagged = TAG_BEFORE + file_bytes(tone(), container=container) + TAG_BEHIND
    np.testing.assert_array_equal(read_everywhere(tmp_path / "tagged", tagged), plain)


@pytest.mark.parametrize("rate_hz, channels", [(44_100, 1), (44_100, 2), (22_050, 1), (8_000, 1)])
def test_mp3_of_variable_rate_without_its_encoders_tag(tmp_path, rate_hz, channels):
    tagged = variable_mp3(8.0, rate_hz, channels)
    frames = mp3_frames(tagged)
    assert len(set(map(len, frames))) > 3 and b"Xing" in frames[0] + b"Info"
    samples = read_everywhere(tmp_path / "x.mp3", b"".join(frames[1:]))
    with_tag = read_everywhere(tmp_path / "tagged.mp3", tagged)
    # Without the tag nobody knows what the encoder padded; two frames before and some behind.
    assert 0 <= len(samples) - len(with_tag) < 4 * 1152
    lag = 1105 - 529
    np.testing.assert_allclose(samples[lag : lag + len(with_tag)], with_tag, atol=2e-3)


@pytest.mark.parametrize("rate_hz", [44_100, 22_050, 8_000])
def test_mp3_cut_out_of_a_longer_stream_begins_with_silence(tmp_path, rate_hz):
    """Its first frames draw on bytes that are not there; the decoder would take them from anywhere."""
    frames = mp3_frames(variable_mp3(4.0, rate_hz))
    frame_samples = 1152 if rate_hz == 44_100 else 576
    whole = read_everywhere(tmp_path / "whole.mp3", b"".join(frames[1:]))
    part = read_everywhere(tmp_path / "x.mp3", b"".join(frames[41:]))
    assert len(part) == len(whole) - 40 * frame_samples
    assert not part[: frame_samples - 529].any()
    settled = 25 * frame_samples
    np.testing.assert_allclose(part[settled:], whole[40 * frame_samples + settled :], atol=1e-6)


def test_mp3_after_zeros_and_foreign_bytes(tmp_path):
    plain = read_everywhere(tmp_path / "plain.mp3", variable_mp3(2.0))
    for number, before in enumerate((bytes(5), bytes(100_000), b"\xff\xfb\x90" * 7, b"words, not sound" * 100)):
        samples = read_everywhere(tmp_path / f"{number}.mp3", before + variable_mp3(2.0))
        np.testing.assert_array_equal(samples, plain)


def test_mp3_files_put_together(tmp_path):
    one, two = variable_mp3(2.0), variable_mp3(3.0)
    samples = read_everywhere(tmp_path / "x.mp3", one + TAG_BEHIND + TAG_BEFORE + two)
    num_frames = len(mp3_frames(one)) + len(mp3_frames(two)) - 2
    assert len(samples) == num_frames * 1152 - 529
    assert len(samples) / 44_100 == pytest.approx(5.0, abs=0.15)


def test_mp3_whose_tag_counts_itself_or_nothing(tmp_path):
    data = variable_mp3(2.0)
    at = max(data.find(b"Xing"), data.find(b"Info"))
    flags, count = struct.unpack_from(">II", data, at + 4)
    assert flags & 1 and count == len(mp3_frames(data)) - 1
    for number, changed in enumerate((with_number(data, at + 8, count + 1, ">I"), with_number(data, at + 4, 0, ">I"))):
        samples = read_everywhere(tmp_path / f"{number}.mp3", changed)
        assert len(samples) == count * 1152 - 529


def test_mp3_in_wav(tmp_path):
    mp3 = b"".join(mp3_frames(variable_mp3(2.0)))
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 18, 0x55, 1, 44_100, 16_000, 1, 0) + struct.pack("<H", 0)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", len(mp3)) + mp3
    plain = read_everywhere(tmp_path / "plain.mp3", mp3)
    wrapped = b"RIFF" + struct.pack("<I", len(body)) + body
    np.testing.assert_array_equal(read_everywhere(tmp_path / "x.wav", wrapped), plain)


def test_mpeg_layer_two(tmp_path):
    # 128 kbps at 44.1 kHz, mono, no bits for any band: silence in frames of the right length.
    frame = bytes([0xFF, 0xFD, 0x80, 0xC0]) + bytes(413)
    samples = read_everywhere(tmp_path / "x.mp2", frame * 20)
    assert len(samples) == 20 * 1152 and not samples.any()


def test_floats_that_are_16_bit_integers_are_scaled_and_told(tmp_path, caplog):
    samples = np.round(tone(3.0) * 32768).astype(np.float32)
    samples[:10_000] = np.round(samples[:10_000] / 16_000)
    for subtype in ("FLOAT", "DOUBLE"):
        caplog.clear()
        path = tmp_path / f"{subtype}.wav"
        found = read_everywhere(path, file_bytes(samples, subtype=subtype))
        np.testing.assert_allclose(found, samples / 32768, atol=1e-7)
        assert f"{path}: its floats are 16-bit integers" in caplog.text


def test_loud_floats_stay_as_they_are(tmp_path, caplog):
    found = read_everywhere(tmp_path / "x.wav", file_bytes(tone() * 20, subtype="FLOAT"))
    np.testing.assert_allclose(found, tone() * 20, atol=1e-5)
    assert not caplog.text


@pytest.mark.parametrize("gain", [-1.0, -0.9])
@pytest.mark.parametrize("container, subtype", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "MS_ADPCM")])
def test_channels_in_opposite_phase_are_not_silence(tmp_path, caplog, container, subtype, gain):
    data = file_bytes(np.stack([tone(), gain * tone()], axis=1), container=container, subtype=subtype)
    found = read_everywhere(tmp_path / "x", data)
    np.testing.assert_allclose(found[:16_000], tone(), atol=0.05)
    assert "channel 1 is taken alone" in caplog.text


def test_a_silent_or_a_lone_channel_is_averaged_as_ever(tmp_path, caplog):
    for number, other in enumerate((np.zeros_like(tone()), tone(hz=700), -0.5 * tone())):
        data = file_bytes(np.stack([tone(), other], axis=1), subtype="FLOAT")
        found = read_everywhere(tmp_path / f"{number}.wav", data)
        np.testing.assert_allclose(found, (tone() + other) / 2, atol=1e-6)
    assert not caplog.text


def test_the_mix_of_a_part_is_that_of_the_whole(tmp_path):
    """Channels that cancel each other for a while only: the part is silence because the whole is averaged."""
    left, right = tone(3.0), tone(3.0)
    right[16_000:20_000] *= -1
    path = tmp_path / "x.wav"
    path.write_bytes(file_bytes(np.stack([left, right], axis=1), subtype="FLOAT"))
    assert not read_ranges(path, ((17_000, 18_000),)).samples.any()
    assert not read_audio(path).samples[17_000:18_000].any()


def test_objects_in_a_bucket_are_read(tmp_path, monkeypatch):
    from audiolm_jax.files import object_storage

    path = tmp_path / "x.wav"
    path.write_bytes(WAV)
    expected = read_audio(path)
    monkeypatch.setattr(object_storage, "SCHEMES", (str(tmp_path),))
    assert read_audio(str(path)) == expected
    assert read_header(str(path)) == (16_000, 16_000)
    assert [read_audio(found) for found in audio_files(str(tmp_path))] == [expected]
