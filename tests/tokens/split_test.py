"""What a split says of a corpus: names that are held out, and which recordings were certainly trained on."""

import json

import pytest

from audiolm_jax.files.plain_json import from_plain, to_plain
from audiolm_jax.tokens import split as splits
from audiolm_jax.tokens.split import Split


def split_of(sides: dict[str, bool], settings=None) -> Split:
    """Of files by key, "speaker/name", and whether they are held out."""
    return Split.of("folder", settings or {}, list(sides), [key.split("/")[0] for key in sides], list(sides.values()))


def test_whole_speakers_are_named_once():
    split = split_of({"a/1": False, "b/1": True, "b/2": True, "c/1": False})
    assert (split.heldout, split.num_train, split.num_heldout) == (("b",), 2, 2)
    assert split.trained_on(["a/1", "b/1", "c/1", "d/1"]) == ["a/1", "c/1"]


def test_of_a_speaker_on_both_sides_the_files_are_named():
    assert split_of({"a/1": False, "a/2": True, "a/3": True}).heldout == ("a/2", "a/3")


def test_the_digest_is_that_of_the_names_held_out():
    split = split_of({"a/1": False, "b/1": True})
    more = split_of({"b/2": True, "b/1": True, "a/1": False, "a/2": False, "c/9": False})
    assert more.heldout_digest == split.heldout_digest
    assert split_of({"a/1": True, "b/1": False}).heldout_digest != split.heldout_digest
    assert split_of({"a/1": False}).heldout_digest == split_of({"c/1": False}).heldout_digest  # of nothing


def test_of_a_large_corpus_a_sample_is_kept(monkeypatch):
    monkeypatch.setattr(splits, "_SAMPLED_KEYS", 100)
    monkeypatch.setattr(splits, "_MOST_NAMES", 3)
    train, heldout = ([f"{side}{n}/x" for n in range(1000)] for side in "th")
    split = split_of({**dict.fromkeys(train, False), **dict.fromkeys(heldout, True)})
    assert len(split.trained_on(train)) == 100 and split.trained_on(heldout) == []
    assert len(split.heldout) == 3 and split.num_heldout == 1000
    # Which keys are in it depends on their names alone, so a part of the corpus is noticed as well.
    assert 20 < len(split.trained_on(train[::2])) < 80


def test_a_split_survives_json():
    split = split_of({"a/1": False, "\udcff/1": False, "b/1": True}, {"heldout_speakers": 1, "split_seed": 0})
    assert from_plain(Split, json.loads(json.dumps(to_plain(split))), "split") == split
    assert split.in_words() == "corpus folder, heldout_speakers 1, split_seed 0"
    with pytest.raises(Exception, match="lacks 'heldout'"):
        from_plain(Split, {"kind": "folder", "settings": {}, "num_train": 1, "num_heldout": 1}, "split")
