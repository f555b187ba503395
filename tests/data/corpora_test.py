"""Folders as corpora: speakers, keys, and a split that leaks no speaker."""

from pathlib import Path

import pytest

from audiolm_jax.data.corpora import FolderCorpus
from audiolm_jax.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_speakers_and_keys_come_from_paths(tmp_path):
    root = touch(tmp_path, "ls19/book/x.flac", "ls19/y.WAV", "ls2/x.flac", "loose.wav", "notes.txt")
    found = {u.key: u.speaker for u in FolderCorpus(root).utterances}
    assert found == {"ls19/book/x": "ls19", "ls19/y": "ls19", "ls2/x": "ls2", "loose": "loose"}
    assert [u.key for u in FolderCorpus(root).utterances] == sorted(found)


def test_speakers_may_lie_deeper(tmp_path):
    root = touch(tmp_path, "dev-clean/84/121/84-121-0.flac", "test-clean/61/70/61-70-0.flac", "test-clean/x.flac")
    found = {u.key: u.speaker for u in FolderCorpus(root, speaker_level=1).utterances}
    assert list(found.values()) == ["84", "61", "test-clean"]


def test_no_speaker_is_on_both_sides(tmp_path):
    root = touch(tmp_path, *(f"s{n}/{i}.wav" for n in range(40) for i in range(1 + n % 3)))
    corpus = FolderCorpus(root, heldout_speakers=6)
    sides = [{u.speaker for u in side} for side in (corpus.train, corpus.heldout)]
    assert not sides[0] & sides[1] and len(sides[1]) == 6
    assert len(corpus.train) + len(corpus.heldout) == len(corpus.utterances)
    assert FolderCorpus(root, heldout_speakers=6).heldout == corpus.heldout
    assert FolderCorpus(root, heldout_speakers=6, seed=1).heldout != corpus.heldout
    # Holding out more speakers keeps those that were held out.
    assert {u.key for u in corpus.heldout} < {u.key for u in FolderCorpus(root, heldout_speakers=9).heldout}
    assert {file.key for file in corpus.source_files() if file.split == "heldout"} == {u.key for u in corpus.heldout}


def test_few_speakers_are_not_all_held_out(tmp_path):
    assert len(FolderCorpus(touch(tmp_path / "a", *(f"s{n}/x.wav" for n in range(8)))).heldout) == 2
    assert len(FolderCorpus(touch(tmp_path / "b", "s1/x.wav", "s2/x.wav")).heldout) == 1
    one = FolderCorpus(touch(tmp_path / "c", *(f"s/{n}.wav" for n in range(20))))
    assert len(one.heldout) == 2 and len(one.train) == 18
    assert FolderCorpus(touch(tmp_path / "d", "s/x.wav")).heldout == []
    assert FolderCorpus(tmp_path / "a", heldout_speakers=0).heldout == []


def test_mistakes_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        _ = FolderCorpus(tmp_path / "missing").utterances
    with pytest.raises(UserError, match="no audio files"):
        _ = FolderCorpus(touch(tmp_path / "a", "notes.txt")).utterances
    with pytest.raises(UserError, match="differ only in their suffix"):
        _ = FolderCorpus(touch(tmp_path / "b", "x.wav", "x.flac")).utterances
    with pytest.raises(UserError, match="negative"):
        FolderCorpus(tmp_path, heldout_speakers=-1)
