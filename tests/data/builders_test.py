"""Each corpus's layout on disk, made small, becomes examples with speakers and side data."""

import json

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")

from audiolm_jax.data.builders import AudiolmLibriLight, AudiolmLibriSpeech, AudiolmMaestro  # noqa: E402


def write(path, num_samples, sample_rate_hz=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.25 * np.sin(np.arange(num_samples) / 10)
    write_audio(path, Waveform(samples.astype(np.float32), sample_rate_hz))


def prepare(builder_class, tmp_path):
    builder = builder_class(data_dir=tmp_path / "prepared")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    builder.download_and_prepare(download_config=config)
    return {split: list(tfds.as_numpy(builder.as_dataset(split))) for split in builder.info.splits}


def test_libri_light(tmp_path):
    book = tmp_path / "manual" / "small" / "100" / "sea_fairies_0812"
    write(book / "one.flac", 2000)
    write(book / "two.flac", 1000)
    described = {
        "book_meta": {"id": "2315", "title": "Sea Fairies", "meta_genre": "Literature"},
        "snr": 6.5,
        "voice_activity": [[0.0, 0.5], [0.75, 1.0]],
    }
    (book / "one.json").write_text(json.dumps(described))
    examples = {example["key"].decode(): example for example in prepare(AudiolmLibriLight, tmp_path)["small"]}
    assert set(examples) == {"100/sea_fairies_0812/one", "100/sea_fairies_0812/two"}
    one, two = (examples[f"100/sea_fairies_0812/{name}"] for name in ("one", "two"))
    assert one["speaker"] == b"100" and one["book_title"] == b"Sea Fairies" and one["snr"] == 6.5
    np.testing.assert_array_equal(one["voice_activity"], described["voice_activity"])
    assert one["audio"].dtype == np.int16 and len(one["audio"]) == 2000 and abs(one["audio"]).max() > 8000
    assert np.isnan(two["snr"]) and two["voice_activity"].shape == (0, 2)


def test_libri_speech(tmp_path):
    chapter = tmp_path / "manual" / "dev-clean" / "19" / "198"
    write(chapter / "19-198-0000.flac", 800)
    (chapter / "19-198.trans.txt").write_text("19-198-0000 NORTHANGER ABBEY\n")
    (example,) = prepare(AudiolmLibriSpeech, tmp_path)["dev_clean"]
    assert example["speaker"] == b"19" and example["text"] == b"NORTHANGER ABBEY"
    assert example["key"] == b"19/198/19-198-0000"


def test_maestro(tmp_path):
    root = tmp_path / "manual"
    write(root / "2004" / "a.wav", 4410, 44_100)
    write(root / "2006" / "b.wav", 4410, 44_100)
    table = {
        "canonical_composer": {"0": "Alban Berg", "1": "Franz Liszt"},
        "canonical_title": {"0": "Sonata Op. 1", "1": "La Campanella"},
        "split": {"0": "train", "1": "test"},
        "year": {"0": 2004, "1": 2006},
        "audio_filename": {"0": "2004/a.wav", "1": "2006/b.wav"},
    }
    (root / "maestro-v3.0.0.json").write_text(json.dumps(table))
    found = prepare(AudiolmMaestro, tmp_path)
    assert set(found) == {"train", "test"}
    assert found["train"][0]["composer"] == b"Alban Berg" and found["test"][0]["year"] == 2006
    assert len(found["train"][0]["audio"]) == 1600


@pytest.mark.parametrize("builder", [AudiolmLibriLight, AudiolmLibriSpeech, AudiolmMaestro])
def test_a_missing_corpus_says_what_to_unpack(builder, tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "other.txt").write_text("not a corpus")
    with pytest.raises(UserError, match="unpack"):
        prepare(builder, tmp_path)
