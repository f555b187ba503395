"""Datasets of waveforms that TFDS has prepared, as corpora: which splits and features a Task of them reads."""

import dataclasses
import functools

import tensorflow_datasets as tfds

# Importing it registers the builders of the corpora that have none in TFDS.
from audiolm_jax.data.seqio import builders  # noqa: F401
from audiolm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TfdsCorpus:
    """A dataset that TFDS has prepared, see `data/seqio/prepare_tfds.py`.

    Attributes:
        name: of the dataset, with its config.
        data_dir: where it was prepared.
        train_split, heldout_split: of other speakers each.
        audio, speaker, key: names of its features.
    """

    name: str
    data_dir: str
    train_split: str
    heldout_split: str
    audio: str = "audio"
    speaker: str = "speaker"
    key: str = "key"

    @functools.cached_property
    def builder(self) -> tfds.core.DatasetBuilder:
        """The builder of the dataset.

        Raises:
            UserError: it is not prepared there.
        """
        try:
            builder = tfds.builder(self.name, data_dir=self.data_dir)
            if builder.is_prepared():
                return builder
        except (tfds.core.DatasetNotFoundError, ValueError):
            pass
        raise UserError(f"{self.data_dir} holds no prepared {self.name}; run python -m audiolm_jax.data.seqio."
                        f"prepare_tfds {self.name} --data_dir {self.data_dir} (see docs/data.md)")


def tfds_libri_speech(data_dir: str, train: str | None = None, heldout: str = "dev_clean") -> TfdsCorpus:
    """LibriSpeech by TFDS's own builder: 960 h to train on; its splits share no speakers."""
    train = train or "train_clean100+train_clean360+train_other500"
    return TfdsCorpus("librispeech", data_dir, train, heldout, "speech", "speaker_id", "id")


def tfds_libri_light(data_dir: str, subset: str) -> TfdsCorpus:
    """Libri-Light's segments: "unlab-600", "unlab-6k" or "unlab-60k"."""
    return TfdsCorpus(f"audiolm_libri_light/{subset}", data_dir, "train", "validation")


def tfds_maestro(data_dir: str, heldout: str = "validation") -> TfdsCorpus:
    """MAESTRO's recordings."""
    return TfdsCorpus("audiolm_maestro", data_dir, "train", heldout)
