"""TFDS builders over copies of Libri-Light and MAESTRO on disk.

The corpora are hundreds of gigabytes behind licences and mirrors of their own, so the builders download nothing: they
read a folder that was unpacked before (`manual_dir`). LibriSpeech has a builder of TFDS's own. `audiolm train` and
`audiolm tokenize` read all these folders as they are (`data/corpora/corpora.py`) and need none of this.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from audiolm_jax.audio import read_ranges
from audiolm_jax.data.corpora import libri_light, maestro
from audiolm_jax.data.corpora.even_segments import segments_of
from audiolm_jax.data.corpora.utterances import LeftOut, heldout_speaker_names, tell_left_out
from audiolm_jax.data.corpora.voice_activity import SEGMENT_SECONDS, Ranges
from audiolm_jax.errors import UserError, first_line

_HELDOUT_SPEAKERS = 20
_HOMEPAGE = "https://github.com/facebookresearch/libri-light"


def _int16(samples: np.ndarray) -> np.ndarray:
    """float32[T] in [-1, 1] as int16[T]."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


class AudiolmLibriLight(tfds.core.GeneratorBasedBuilder):
    """Libri-Light in segments of up to a minute of speech, cut as its own tools cut it; an Apache Beam pipeline.

    An example is a segment, see `data.corpora.voice_activity.cut_by_voice_activity`. Split by speaker: "validation"
    holds the 20 speakers that `LibriLightCorpus` holds out, "train" the others. Recordings that cannot be used are told
    on stderr.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {"2.0.0": "Segments of speech in place of whole recordings; split by speaker; a config a subset."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "unpack those of small.tar, medium.tar and large.tar that it needs in manual_dir."
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=subset, description=f"Libri-Light's parts {', '.join(parts)}.")
        for subset, parts in libri_light.SUBSETS.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": tfds.features.Audio(shape=(None,), sample_rate=libri_light.SAMPLE_RATE_HZ, dtype=np.int16),
            "key": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "book_id": tfds.features.Text(),
            "book_title": tfds.features.Text(),
            "meta_genre": tfds.features.Text(),
            "snr": tfds.features.Scalar(dtype=np.float32),
            # [start, stop) in samples of the recording, of each stretch that the segment is made of.
            "ranges": tfds.features.Tensor(shape=(None, 2), dtype=np.int64),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), homepage=_HOMEPAGE)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        recordings, left_out = libri_light.find_recordings(
            root, libri_light.parts_of(root, self.builder_config.name)
        )
        tell_left_out(left_out)
        heldout = heldout_speaker_names([r.speaker for r in recordings], _HELDOUT_SPEAKERS, seed=0)
        splits = {
            "train": [recording for recording in recordings if recording.speaker not in heldout],
            "validation": [recording for recording in recordings if recording.speaker in heldout],
        }
        return {split: self._generate_examples(root, chosen) for split, chosen in splits.items() if chosen}

    def _generate_examples(self, root: Path, recordings: list[libri_light.Recording]) -> Any:
        beam = tfds.core.lazy_imports.apache_beam
        segments = functools.partial(_libri_light_segments, str(root))
        return beam.Create(recordings) | beam.Reshuffle() | beam.FlatMap(segments)


def _libri_light_segments(root: str, recording: libri_light.Recording) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of one recording, none if it cannot be used; runs in a Beam worker."""
    path = Path(root) / recording.name
    found = libri_light.segments_of(path, SEGMENT_SECONDS)
    if found.reason:
        tell_left_out([LeftOut(recording.name, recording.key, recording.speaker, found.reason)])
    try:
        description = libri_light.read_description(path.with_suffix(".json")) if len(found.num_ranges) else None
        bounds = np.cumsum(found.num_ranges)[:-1]
        for number, rows in enumerate(np.split(found.ranges, bounds) if len(found.num_ranges) else ()):
            ranges: Ranges = tuple(map(tuple, rows.tolist()))
            key = f"{recording.key}_{number:04d}"
            yield key, {
                "audio": _int16(read_ranges(path, ranges).samples),
                "key": key,
                "speaker": recording.speaker,
                "book_id": description.book_id,
                "book_title": description.book_title,
                "meta_genre": description.meta_genre,
                "snr": description.snr,
                "ranges": rows.astype(np.int64),
            }
    except Exception as error:  # noqa: BLE001 (decoders have errors of their own)
        # A FLAC file with a good header may still break off in the middle.
        print(f"left out: the rest of {recording.name}: {first_line(error)}", file=sys.stderr)


class AudiolmMaestro(tfds.core.GeneratorBasedBuilder):
    """MAESTRO v3 in segments of up to a minute, mixed to mono and resampled to 16 kHz, in MAESTRO's own splits.

    An example is a segment of `MaestroCorpus`. Recordings that cannot be used are told on stderr. An Apache Beam
    pipeline.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {"2.0.0": "Segments in place of whole recordings; reads the table as CSV too."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "unpack maestro-v3.0.0.zip and make its folder maestro-v3.0.0 the manual_dir."
    SAMPLE_RATE_HZ = 16_000

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": tfds.features.Audio(shape=(None,), sample_rate=self.SAMPLE_RATE_HZ, dtype=np.int16),
            "key": tfds.features.Text(),
            # Of the composition, in the place of a speaker.
            "speaker": tfds.features.Text(),
            "composer": tfds.features.Text(),
            "title": tfds.features.Text(),
            "year": tfds.features.Scalar(dtype=np.int32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://magenta.tensorflow.org/datasets/maestro"
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        kept, left_out = maestro.usable(root, maestro.read_table(root))
        tell_left_out(left_out)
        if not kept:
            raise UserError(f"{root} holds none of the recordings of its table; unpack maestro-v3.0.0.zip again")
        splits = {split: [p for p in kept if p.split == split] for split in maestro.SPLITS}
        return {split: self._generate_examples(root, chosen) for split, chosen in splits.items() if chosen}

    def _generate_examples(self, root: Path, performances: list[maestro.Performance]) -> Any:
        beam = tfds.core.lazy_imports.apache_beam
        segments = functools.partial(_maestro_segments, str(root), self.SAMPLE_RATE_HZ)
        return beam.Create(performances) | beam.Reshuffle() | beam.FlatMap(segments)


def _maestro_segments(
    root: str, sample_rate_hz: int, performance: maestro.Performance
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of one recording, none if it cannot be used; runs in a Beam worker."""
    path = Path(root) / performance.audio_filename
    found = segments_of(path, SEGMENT_SECONDS)
    if found.reason:
        tell_left_out([LeftOut(performance.audio_filename, performance.key, performance.composition, found.reason)])
    try:
        for number, rows in enumerate(found.ranges):
            key = f"{performance.key}_{number:04d}"
            yield key, {
                "audio": _int16(read_ranges(path, (tuple(rows.tolist()),), sample_rate_hz).samples),
                "key": key,
                "speaker": performance.composition,
                "composer": performance.composer,
                "title": performance.title,
                "year": performance.year,
            }
    except Exception as error:  # noqa: BLE001 (as above)
        print(f"left out: the rest of {performance.audio_filename}: {first_line(error)}", file=sys.stderr)
