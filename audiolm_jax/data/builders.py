"""TFDS builders over copies of Libri-Light, LibriSpeech and MAESTRO on disk.

The corpora are hundreds of gigabytes behind licences and mirrors of their own, so the builders download nothing: they
read a folder that was fetched before (`manual_dir`) and give waveforms with speakers, keys and the side data of each
corpus. `audiolm tokenize` reads such folders directly and needs none of this.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from audiolm_jax.audio import audio_files, read_audio
from audiolm_jax.errors import UserError

_LIBRI_RATE_HZ = 16_000
# Libri-Light's folders and LibriSpeech's, by the names that TFDS allows for splits.
LIBRI_LIGHT_SPLITS = ("small", "medium", "large", "duplicate")
LIBRI_SPEECH_SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
_MAESTRO_SPLITS = ("train", "validation", "test")


def _samples(path: Path, sample_rate_hz: int) -> np.ndarray:
    """int16[T] of a file."""
    samples = read_audio(path, sample_rate_hz).samples
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def _folders(builder: tfds.core.GeneratorBasedBuilder, root: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Those of the named folders that exist below `root`, by split name; UserError if none does."""
    found = {name.replace("-", "_"): root / name for name in names if (root / name).is_dir()}
    if not found:
        raise UserError(f"{root} holds none of the folders {', '.join(names)}; {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    return found


class AudiolmLibriLight(tfds.core.GeneratorBasedBuilder):
    """Libri-Light: <split>/<speaker>/<book>/<name>.flac, with <name>.json beside it."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "unpack small.tar, medium.tar or large.tar of Libri-Light into manual_dir."

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": tfds.features.Audio(shape=(None,), sample_rate=_LIBRI_RATE_HZ, dtype=np.int16),
            "key": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "book_id": tfds.features.Text(),
            "book_title": tfds.features.Text(),
            "meta_genre": tfds.features.Text(),
            "snr": tfds.features.Scalar(dtype=np.float32),
            # Start and end of each stretch of speech, in seconds.
            "voice_activity": tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://github.com/facebookresearch/libri-light"
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        folders = _folders(self, Path(dl_manager.manual_dir), LIBRI_LIGHT_SPLITS)
        return {split: self._generate_examples(folder) for split, folder in folders.items()}

    def _generate_examples(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in audio_files(folder):
            key = path.relative_to(folder).with_suffix("").as_posix()
            side = path.with_suffix(".json")
            described = json.loads(side.read_text()) if side.exists() else {}
            book = described.get("book_meta", {})
            yield key, {
                "audio": _samples(path, _LIBRI_RATE_HZ),
                "key": key,
                "speaker": key.split("/")[0],
                "book_id": str(book.get("id", "")),
                "book_title": str(book.get("title", "")),
                "meta_genre": str(book.get("meta_genre", "")),
                "snr": float(described.get("snr", np.nan)),
                "voice_activity": np.asarray(described.get("voice_activity", []), np.float32).reshape(-1, 2),
            }


class AudiolmLibriSpeech(tfds.core.GeneratorBasedBuilder):
    """LibriSpeech: <subset>/<speaker>/<chapter>/<utterance>.flac, with <speaker>-<chapter>.trans.txt beside them."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "unpack the archives of LibriSpeech and make its folder LibriSpeech the manual_dir."

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": tfds.features.Audio(shape=(None,), sample_rate=_LIBRI_RATE_HZ, dtype=np.int16),
            "key": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "text": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://www.openslr.org/12"
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        folders = _folders(self, Path(dl_manager.manual_dir), LIBRI_SPEECH_SPLITS)
        return {split: self._generate_examples(folder) for split, folder in folders.items()}

    def _generate_examples(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        texts: dict[str, str] = {}
        for transcript in sorted(folder.rglob("*.trans.txt")):
            lines = (line.partition(" ") for line in transcript.read_text().splitlines() if line)
            texts |= {name: text for name, _, text in lines}
        for path in audio_files(folder):
            key = path.relative_to(folder).with_suffix("").as_posix()
            yield key, {
                "audio": _samples(path, _LIBRI_RATE_HZ),
                "key": key,
                "speaker": key.split("/")[0],
                "text": texts.get(path.stem, ""),
            }


class AudiolmMaestro(tfds.core.GeneratorBasedBuilder):
    """MAESTRO v3: maestro-v3.0.0.json and the recordings it names, resampled to 16 kHz, in MAESTRO's own splits."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "unpack maestro-v3.0.0.zip and make its folder maestro-v3.0.0 the manual_dir."
    SAMPLE_RATE_HZ = 16_000

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": tfds.features.Audio(shape=(None,), sample_rate=self.SAMPLE_RATE_HZ, dtype=np.int16),
            "key": tfds.features.Text(),
            "composer": tfds.features.Text(),
            "title": tfds.features.Text(),
            "year": tfds.features.Scalar(dtype=np.int32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://magenta.tensorflow.org/datasets/maestro"
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir)
        table = root / "maestro-v3.0.0.json"
        if not table.exists():
            raise UserError(f"{table} does not exist; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        # A table by columns, each a map of the row's number to the value.
        columns = json.loads(table.read_text())
        rows = [{name: column[row] for name, column in columns.items()} for row in columns["split"]]
        present = [split for split in _MAESTRO_SPLITS if any(row["split"] == split for row in rows)]
        return {
            split: self._generate_examples(root, [row for row in rows if row["split"] == split]) for split in present
        }

    def _generate_examples(self, root: Path, rows: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows:
            key = Path(row["audio_filename"]).with_suffix("").as_posix()
            yield key, {
                "audio": _samples(root / row["audio_filename"], self.SAMPLE_RATE_HZ),
                "key": key,
                "composer": row["canonical_composer"],
                "title": row["canonical_title"],
                "year": int(row["year"]),
            }
