"""Corpora in their own layouts: speakers, keys, segments, and a split that leaks no speaker."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.data.corpora import even_segments, libri_light, segment_index
from audiolm_jax.data.corpora.corpora import (
    CORPUS_KINDS,
    FolderCorpus,
    LibriLightCorpus,
    MaestroCorpus,
    MusicCorpus,
    open_corpus,
)
from audiolm_jax.data.corpora.utterances import read_utterance
from audiolm_jax.errors import UserError
from tests.data.tiny_corpora import (
    LIBRI_LIGHT,
    MAESTRO,
    RATE_HZ,
    describe,
    ramp,
    write_libri_light,
    write_maestro,
    write_recording,
)


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
    assert FolderCorpus(root).utterances.speakers == tuple(found[key] for key in sorted(found))


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
    with pytest.raises(UserError, match="no kind of corpus 'libri'.*folder, libri_light, unlab-600"):
        open_corpus("libri", tmp_path)


def test_a_recording_is_one_speaker_s_whatever_links_lead_to_it(tmp_path, capsys):
    root = touch(tmp_path / "speech", "amy/1.wav", "bob/2.wav")
    pool = touch(tmp_path / "pool", "3.wav")
    plain = FolderCorpus(root, heldout_speakers=1)
    assert len(plain.heldout) == 1
    (root / "bob/again.wav").symlink_to(root / "amy/1.wav")
    (root / "abe").mkdir()
    for name in ("abe/first.wav", "dan.wav"):
        (root / name).symlink_to(pool / "3.wav")
    (root / "cleo").symlink_to("amy")
    (root / "amy/loop").symlink_to(root)
    corpus = FolderCorpus(root)
    assert {u.key: u.speaker for u in corpus.utterances} == {"abe/first": "abe", "amy/1": "amy", "bob/2": "bob"}
    assert {entry.source: entry.reason for entry in corpus.left_out} == {
        "bob/again.wav": "it is a link to amy/1.wav, which is read already",
        "dan.wav": "it is a link to abe/first.wav, which is read already",
    }
    # A command that lists a folder twice says so once.
    assert FolderCorpus(root, heldout_speakers=0).left_out == corpus.left_out
    told = capsys.readouterr().err
    assert told.count("left out: ") == 2 and f"left out: {root}/bob/again.wav: it is a link" in told


def test_a_name_that_is_not_utf8_is_left_out_with_a_reason_by_every_corpus(tmp_path, libri_light_dir, capsys):
    root = touch(tmp_path / "speech", "amy/1.wav", "bob/2.wav")
    book = libri_light_dir / "small/25/emma_librivox_64kb_mp3"
    for folder in (root / "amy", book):
        for suffix in (".flac", ".json"):
            with open(os.path.join(os.fsencode(folder), b"caf\xe9" + os.fsencode(suffix)), "wb"):
                pass
    for folder in (root, libri_light_dir / "small", book):
        os.mkdir(os.path.join(os.fsencode(folder), b"\xff"))
        touch(Path(os.fsdecode(os.path.join(os.fsencode(folder), b"\xff"))), "x.flac")
    corpora = {"folder": FolderCorpus(root), "libri_light": libri_light_corpus(libri_light_dir)}
    assert [u.key for u in corpora["folder"].utterances] == ["amy/1", "bob/2"]
    assert len(corpora["libri_light"].utterances) == 9
    named = {kind: sorted(entry.source for entry in corpus.left_out) for kind, corpus in corpora.items()}
    assert named["folder"] == [r"\xff/x.flac", r"amy/caf\xe9.flac"]
    below = "small/25/emma_librivox_64kb_mp3"
    assert named["libri_light"] == [r"small/25/emma_librivox_64kb_mp3/\xff", rf"{below}/caf\xe9.flac", r"small/\xff"]
    for corpus in corpora.values():
        assert all("not UTF-8; rename it" in entry.reason for entry in corpus.left_out)
        # Names and reasons go into JSON, and the names into hashes.
        json.dumps([dataclasses.asdict(entry) for entry in corpus.left_out]).encode()
        assert {entry.source.encode().decode() for entry in corpus.left_out}
    assert capsys.readouterr().err.count("left out: ") == 5


@pytest.fixture
def libri_light_dir(tmp_path):
    return write_libri_light(tmp_path / "unlab")


def libri_light_corpus(root, **settings):
    settings = {"heldout_speakers": 1, "segment_seconds": 1.0, "cache_dir": root.parent / "cache", **settings}
    return LibriLightCorpus(root, **settings)


def expected_segments(segment_seconds):
    """Key and samples of every segment, by the rule in its plainest form."""
    found = {}
    for number, (key, (seconds, spans)) in enumerate(LIBRI_LIGHT.items()):
        pieces, total = [], 0.0
        samples = ramp(round(seconds * RATE_HZ), number)
        for start, end in spans:
            if not pieces or (total > 0 and total + end - start > segment_seconds):
                pieces.append([])
                total = 0.0
            pieces[-1].append(samples[int(start * RATE_HZ) : int(end * RATE_HZ)])
            total += end - start
        found |= {f"{key}_{place:04d}": np.concatenate(piece) for place, piece in enumerate(pieces)}
    return found


def test_libri_light_is_read_as_its_tools_cut_it(libri_light_dir):
    corpus = libri_light_corpus(libri_light_dir)
    expected = expected_segments(1.0)
    assert [u.key for u in corpus.utterances] == sorted(expected) and len(expected) == 9
    for utterance in corpus.utterances:
        samples = read_utterance(utterance, RATE_HZ).samples * 32768
        np.testing.assert_array_equal(samples.astype(np.int16), expected[utterance.key])
        assert utterance.speaker == utterance.key.split("/")[1]
    assert corpus.left_out == ()


def test_libri_light_is_split_by_speaker_whatever_the_part(libri_light_dir):
    corpus = libri_light_corpus(libri_light_dir, heldout_speakers=2)
    sides = [set(side.speakers) for side in (corpus.train, corpus.heldout)]
    assert not sides[0] & sides[1] and len(sides[1]) == 1 and len(sides[0]) == 4
    assert [u.speaker for u in corpus.train] == list(corpus.train.speakers)
    files = corpus.source_files()
    assert len(files) == len(corpus.utterances)
    assert {f.key for f in files if f.split == "heldout"} == {u.key for u in corpus.heldout}
    for file, utterance in zip(files, corpus.utterances, strict=True):
        assert (file.path, file.key, file.ranges) == (str(utterance.path), utterance.key, utterance.ranges)
        assert libri_light_dir / file.source == utterance.path
    assert [file.key for file in files[2:5]] == [u.key for u in corpus.utterances[2:5]]
    assert files[-1] == list(files)[-1]


def test_subsets_are_the_parts_of_the_paper(libri_light_dir):
    sizes = {"libri_light": 9, "unlab-600": 6, "unlab-6k": 8, "unlab-60k": 9, "folder": 7}
    settings = {"heldout_speakers": 1, "segment_seconds": 1.0, "cache_dir": libri_light_dir.parent / "cache"}
    for kind, size in sizes.items():
        assert kind in CORPUS_KINDS and len(open_corpus(kind, libri_light_dir, **settings).utterances) == size
    # A part alone is a corpus too, with keys of its own.
    small = open_corpus("libri_light", libri_light_dir / "small", **settings)
    assert small.utterances[0].key == "100/sea_fairies_0812_librivox_64kb_mp3/01_baum_sea_fairies_64kb_0000"
    shutil.rmtree(libri_light_dir / "medium")
    with pytest.raises(UserError, match="no folder medium/, which unlab-6k needs; unpack medium.tar"):
        _ = open_corpus("unlab-6k", libri_light_dir).utterances
    with pytest.raises(UserError, match="no subset 'unlab-6'"):
        LibriLightCorpus(libri_light_dir, "unlab-6")
    with pytest.raises(UserError, match="positive"):
        LibriLightCorpus(libri_light_dir, segment_seconds=0.0)


def test_a_single_speaker_is_split_by_recording(tmp_path):
    keys = [f"small/9/book_{n}/part" for n in range(10)]
    for number, key in enumerate(keys):
        write_recording(tmp_path / "u" / f"{key}.flac", ramp(RATE_HZ, number))
        spans = [[0.0, 0.3], [0.4, 0.9]]
        (tmp_path / "u" / f"{key}.json").write_text(json.dumps(describe(key, spans)))
    corpus = libri_light_corpus(tmp_path / "u", segment_seconds=0.4)
    paths = [{u.path for u in side} for side in (corpus.train, corpus.heldout)]
    assert [len(side) for side in paths] == [9, 1] and not paths[0] & paths[1]
    assert len(corpus.heldout) == 2


def test_bad_files_are_listed_with_reasons_and_nothing_is_lost(tmp_path, capsys):
    root = tmp_path / "unlab"
    good = "small/1/book/good"
    keys = {
        name: f"small/1/book/{name}"
        for name in ("good", "alone", "broken", "listless", "silent", "odd", "slow", "late", "after", "foreign")
    }
    for number, key in enumerate(keys.values()):
        write_recording(root / f"{key}.flac", ramp(RATE_HZ, number))
        (root / f"{key}.json").write_text(json.dumps(describe(key, [[0.0, 0.5]])))
    (root / f"{keys['alone']}.json").unlink()
    (root / f"{keys['broken']}.json").write_text('{"speaker": "1", "voice_')
    (root / f"{keys['listless']}.json").write_text("[1, 2]")
    (root / f"{keys['silent']}.json").write_text(json.dumps(describe(keys["silent"], [])))
    (root / f"{keys['odd']}.json").write_text(json.dumps(describe(keys["odd"], [[0.5, 0.1]])))
    write_recording(root / f"{keys['slow']}.flac", ramp(8000), 8_000)
    (root / f"{keys['late']}.json").write_text(json.dumps(describe(keys["late"], [[0.5, 0.9], [7.0, 9.0]])))
    (root / f"{keys['after']}.json").write_text(json.dumps(describe(keys["after"], [[7.0, 9.0]])))
    (root / f"{keys['foreign']}.flac").write_text("this is no audio")
    (root / "small/2/book").mkdir(parents=True)
    touch(root, "small/loose.flac", "small/1/book/x.mp3", "small/1/book/lost.json")
    corpus = libri_light_corpus(root, heldout_speakers=0)
    assert [u.key for u in corpus.utterances] == [f"{good}_0000", f"{keys['late']}_0000"]
    assert corpus.utterances[1].ranges == ((8000, 14400),)
    reasons = {entry.source: entry.reason for entry in corpus.left_out}
    wanted = {
        f"{keys['alone']}.flac": "alone.json is missing",
        f"{keys['broken']}.flac": "broken.json beside it is damaged",
        f"{keys['listless']}.flac": "no description",
        f"{keys['silent']}.flac": "lists no voice activity",
        f"{keys['odd']}.flac": "ends before it begins",
        f"{keys['slow']}.flac": "its rate is 8000 Hz",
        f"{keys['late']}.flac": "ends at 9.00 s, the recording at 1.00 s",
        f"{keys['after']}.flac": "ends at 9.00 s, the recording at 1.00 s",
        f"{keys['foreign']}.flac": "it is not audio",
        "small/2": "holds no .flac",
        "small/loose.flac": "outside a speaker's folder",
        "small/1/book/x.mp3": "named .flac",
        "small/1/book/lost.json": "the .flac beside it is missing",
    }
    assert reasons.keys() == wanted.keys()
    for source, reason in wanted.items():
        assert reason in reasons[source] and "\n" not in reasons[source]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(wanted) and all(line.startswith("left out: small/") for line in told)
    for key in (good, keys["late"]):
        (root / f"{key}.json").unlink()
    with pytest.raises(UserError, match="none of the 10 recordings"):
        _ = libri_light_corpus(root).utterances
    with pytest.raises(UserError, match="holds no <speaker>/<book>/<name>.flac"):
        _ = libri_light_corpus(touch(tmp_path / "empty", "notes.txt")).utterances
    with pytest.raises(UserError, match="not a folder"):
        _ = libri_light_corpus(tmp_path / "missing").utterances


def test_libri_light_with_links_is_read_once(libri_light_dir, tmp_path):
    root = libri_light_dir
    keys = [u.key for u in libri_light_corpus(root).utterances]
    small = root / "small"
    (small / "0").symlink_to("100")  # a second name of a speaker, which sorts first
    (small / "100/self").symlink_to(".")
    (small / "100/sea_fairies_0812_librivox_64kb_mp3/up").symlink_to(root)
    (small / "25/of_another").symlink_to("../31/emma_librivox_64kb_mp3")
    (small / "circle").symlink_to("circle")
    corpus = libri_light_corpus(root)
    assert [u.key for u in corpus.utterances] == keys
    assert sorted(entry.source for entry in corpus.left_out) == [
        "small/0",
        "small/100/sea_fairies_0812_librivox_64kb_mp3/up",
        "small/100/self",
        "small/25/of_another",
    ]
    # What lies on another disk is found under the name of the link: a part, a speaker, a book.
    (root / "large").rename(tmp_path / "large")
    (root / "large").symlink_to(tmp_path / "large")
    for name in ("small/31", "medium/7/tales_librivox_64kb_mp3"):
        moved = tmp_path / name.replace("/", "_")
        (root / name).rename(moved)
        (root / name).symlink_to(moved)
    corpus = libri_light_corpus(root)
    assert [u.key for u in corpus.utterances] == keys
    assert {u.key.split("/")[1]: u.speaker for u in corpus.utterances}["31"] == "31"


def test_a_link_to_no_recording_loses_nothing_else(libri_light_dir):
    book = libri_light_dir / "small/25/emma_librivox_64kb_mp3"
    (book / "gone.flac").symlink_to("nothing.flac")
    (book / "gone.json").symlink_to("nothing.json")
    corpus = libri_light_corpus(libri_light_dir)
    assert len(corpus.utterances) == 9
    assert [(entry.source.split("/")[-1], entry.reason) for entry in corpus.left_out] == [
        ("gone.flac", "it is no file, or a link to none")
    ]


def count_openings(monkeypatch, stop_at=None):
    """The names of the recordings that are opened from now on; at one of them the scan is stopped."""
    opened, real = [], libri_light.segments_of

    def segments_of(path, segment_seconds):
        if path.stem == stop_at:
            raise KeyboardInterrupt
        opened.append(path.stem)
        return real(path, segment_seconds)

    monkeypatch.setattr(libri_light, "segments_of", segments_of)
    return opened


def test_the_second_start_opens_only_what_changed(libri_light_dir, monkeypatch):
    opened = count_openings(monkeypatch)
    first = list(libri_light_corpus(libri_light_dir).utterances)
    assert len(opened) == 7
    opened.clear()
    assert libri_light_corpus(libri_light_dir).utterances == first and opened == []
    changed = libri_light_dir / "small/25/emma_librivox_64kb_mp3/emma_01_austen_64kb.json"
    changed.write_text(json.dumps(describe(changed.as_posix(), [[0.0, 0.5], [0.6, 0.9]])))
    shutil.rmtree(libri_light_dir / "large")
    found = libri_light_corpus(libri_light_dir).utterances
    # The parts are other ones, so this is another index.
    assert len(opened) == 6 and len(found) == 8
    opened.clear()
    os.utime(changed, ns=(1, 1))
    (changed.parents[2] / "31/emma_librivox_64kb_mp3/emma_02_austen_64kb.flac").unlink()
    corpus = libri_light_corpus(libri_light_dir)
    assert len(corpus.utterances) == 7 and opened == ["emma_01_austen_64kb"]
    assert [entry.source for entry in corpus.left_out] == [
        "small/31/emma_librivox_64kb_mp3/emma_02_austen_64kb.json"
    ]
    opened.clear()
    assert len(libri_light_corpus(libri_light_dir, segment_seconds=0.5).utterances) == 10 and len(opened) == 5


@pytest.mark.parametrize("error", [MemoryError("256 GiB"), RuntimeError("lost"), PermissionError(13, "denied")])
@pytest.mark.parametrize("kind", ["libri_light", "maestro"])
def test_whatever_a_header_raises_leaves_out_one_recording(tmp_path, libri_light_dir, monkeypatch, kind, error):
    module = {"libri_light": libri_light, "maestro": even_segments}[kind]
    root = libri_light_dir if kind == "libri_light" else write_maestro(tmp_path / "maestro")
    bad = next(root.rglob("*emma_01*.flac" if kind == "libri_light" else "*R3_2018*.wav"))
    opened, real = [], module.read_header

    def read_header(path):
        opened.append(path)
        if path == bad:
            raise error
        return real(path)

    monkeypatch.setattr(module, "read_header", read_header)

    def look():
        opened.clear()
        corpus = open_corpus(kind, root, heldout_speakers=1, cache_dir=tmp_path / "cache")
        assert len(corpus.utterances) > 0
        return [(root / entry.source, entry.reason) for entry in corpus.left_out], list(opened)

    (left_out,), first = look()
    assert left_out[0] == bad and left_out[1].startswith("it cannot be read (") and len(first) > 3
    # What may be the machine's fault is tried again, and that alone.
    assert look()[1] == ([] if isinstance(error, RuntimeError) else [bad])
    if not isinstance(error, RuntimeError):
        monkeypatch.setattr(module, "read_header", real)
        assert look()[0] == []


def test_a_description_that_no_parser_takes_leaves_out_one_recording(libri_light_dir):
    book = libri_light_dir / "small/25/emma_librivox_64kb_mp3"
    for values in ("[" * 100_000, '{"snr": 1' + "0" * 400 + ', "voice_activity": [[0, 1]]}'):
        (book / "emma_01_austen_64kb.json").write_text(values)
        corpus = libri_light_corpus(libri_light_dir)
        assert len(corpus.utterances) == 8
        assert [entry.source.split("/")[-1] for entry in corpus.left_out] == ["emma_01_austen_64kb.flac"]


def test_a_stopped_scan_goes_on_and_a_damaged_index_is_made_anew(libri_light_dir, monkeypatch):
    monkeypatch.setattr(segment_index, "_FILES_PER_CHUNK", 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        count_openings(patch, stop_at="02_baum_sea_fairies_64kb")
        _ = libri_light_corpus(libri_light_dir).utterances
    opened = count_openings(monkeypatch)
    found = list(libri_light_corpus(libri_light_dir).utterances)
    assert len(found) == 9
    assert sorted(opened) == ["02_baum_sea_fairies_64kb", "emma_01_austen_64kb", "emma_02_austen_64kb"]
    (index,) = (libri_light_dir.parent / "cache").iterdir()
    for damage in (index.read_bytes()[:100], b"", b"PK\x03\x04 no archive at all"):
        index.write_bytes(damage)
        assert libri_light_corpus(libri_light_dir).utterances == found


def test_a_scan_that_is_killed_loses_a_minute(libri_light_dir, monkeypatch):
    kept, save = [], segment_index._save
    monkeypatch.setattr(segment_index, "_FILES_PER_CHUNK", 3)
    monkeypatch.setattr(segment_index, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(segment_index, "_save", lambda path, index: kept.append(len(index.names)) or save(path, index))
    assert len(libri_light_corpus(libri_light_dir).utterances) == 9 and kept == [3, 6, 7, 7]


def test_an_index_that_cannot_be_kept_is_told_once(libri_light_dir, capsys):
    touch(libri_light_dir.parent, "cache")
    assert len(libri_light_corpus(libri_light_dir).utterances) == 9
    assert capsys.readouterr().err.count("cannot be kept") == 1


@pytest.mark.parametrize("table_format", ["json", "csv"])
def test_maestro_has_its_own_splits(tmp_path, table_format):
    root = write_maestro(tmp_path, table_format)
    corpus = MaestroCorpus(root)
    for split, utterances in (("train", corpus.train), ("validation", corpus.heldout)):
        keys = sorted(row[4].removesuffix(".wav") + "_0000" for row in MAESTRO if row[2] == split)
        assert keys and [u.key for u in utterances] == keys
    assert not set(corpus.train.speakers) & set(corpus.heldout.speakers)
    assert corpus.train.speakers[0] == 'Alexander Scriabin: 24 Preludes Op. 11, No. 13-24 "all"'
    assert [u.key for u in MaestroCorpus(root, "test").heldout] == ["2009/MIDI-Unprocessed_11_R1_2009_06-09_0000"]
    assert {file.split for file in open_corpus("maestro", root).source_files()} == {"train", "heldout"}
    found = read_utterance(corpus.heldout[0], RATE_HZ)
    expected = resample(Waveform(ramp(12_000, 3) / np.float32(32768), 48_000), RATE_HZ)
    np.testing.assert_allclose(found.samples, expected.samples, atol=1e-6)


def test_maestro_is_cut_evenly_and_damaged_recordings_are_listed(tmp_path):
    root = write_maestro(tmp_path)
    cut_short, empty = root / MAESTRO[0][4], root / MAESTRO[1][4]
    cut_short.write_bytes(cut_short.read_bytes()[:-100])
    empty.write_bytes(b"")
    corpus = MaestroCorpus(root, segment_seconds=0.1)
    assert list(dict.fromkeys(corpus.train.speakers)) == ['Alexander Scriabin: 24 Preludes Op. 11, No. 13-24 "all"']
    pieces = [read_utterance(u) for u in corpus.train]
    assert [u.key[-5:] for u in corpus.train] == ["_0000", "_0001", "_0002"]
    assert [len(piece.samples) for piece in pieces] == [3675, 3675, 3675] and pieces[0].sample_rate_hz == 44_100
    whole = np.concatenate([piece.samples for piece in pieces])
    np.testing.assert_array_equal((whole * 32768).astype(np.int16), ramp(11_025, 2))
    reasons = {entry.source: entry.reason for entry in corpus.left_out}
    assert reasons.keys() == {MAESTRO[0][4], MAESTRO[1][4]}
    assert reasons[MAESTRO[0][4]].startswith("it is cut short") and reasons[MAESTRO[1][4]].startswith("it is empty")
    with pytest.raises(UserError, match="positive"):
        MaestroCorpus(root, segment_seconds=0.0)


def test_no_composition_of_maestro_is_on_both_sides(tmp_path):
    root = write_maestro(tmp_path)
    path = root / "maestro-v3.0.0.json"
    columns = json.loads(path.read_text())
    # The second performance of the first composition is said to be of the test split, and a file is not there.
    columns["split"]["1"] = "test"
    path.write_text(json.dumps(columns))
    (root / MAESTRO[4][4]).unlink()
    corpus = MaestroCorpus(root, "test")
    assert [u.key for u in corpus.train] == ["2004/MIDI-Unprocessed_XP_21_R1_0000"]
    assert [u.key for u in corpus.heldout] == [MAESTRO[1][4].removesuffix(".wav") + "_0000"]
    reasons = {entry.source: entry.reason for entry in corpus.left_out}
    assert reasons == {
        MAESTRO[0][4]: "its composition is in the test split too",
        MAESTRO[4][4]: "the table names it, but it is missing",
    }


def test_mistakes_with_maestro_are_user_errors(tmp_path):
    root = write_maestro(tmp_path / "m")
    table = root / "maestro-v3.0.0.json"
    with pytest.raises(UserError, match="validation or test"):
        MaestroCorpus(root, "train")
    with pytest.raises(UserError, match="not a folder"):
        _ = MaestroCorpus(tmp_path / "missing").utterances
    columns = json.loads(table.read_text())
    for damage in ({"audio_filename": {}}, {"split": {"0": "dev"}}, {"year": 3}):
        table.write_text(json.dumps(columns | damage))
        with pytest.raises(UserError, match="damaged"):
            _ = MaestroCorpus(root).utterances
    twice = columns["audio_filename"] | {"1": MAESTRO[0][4]}
    table.write_text(json.dumps(columns | {"audio_filename": twice}))
    with pytest.raises(UserError, match="twice"):
        _ = MaestroCorpus(root).utterances
    table.unlink()
    with pytest.raises(UserError, match="neither maestro-v3.0.0.json nor .csv"):
        _ = MaestroCorpus(root).utterances


@pytest.fixture
def music_dir(tmp_path):
    """Stereo recordings of 44.1 kHz: three pieces with a folder each, and two that lie in the root."""
    names = ("sonata/monday", "sonata/tuesday", "suite/take1", "waltz/take1", "nocturne", "prelude")
    for number, name in enumerate(names):
        write_recording(tmp_path / "music" / f"{name}.wav", np.stack([ramp(44_100, number)] * 2, axis=1), 44_100)
    return tmp_path / "music"


def test_music_is_cut_evenly_and_split_by_piece(music_dir, tmp_path):
    corpus = MusicCorpus(music_dir, heldout_pieces=1, segment_seconds=0.4, cache_dir=tmp_path / "cache")
    assert len(corpus.utterances) == 6 * 3  # 0.33 s each
    keys = [utterance.key for utterance in corpus.utterances if utterance.speaker == "sonata"]
    assert keys == [f"sonata/{day}_{number:04d}" for day in ("monday", "tuesday") for number in range(3)]
    assert {utterance.speaker for utterance in corpus.utterances} == {"sonata", "suite", "waltz", "nocturne", "prelude"}
    (heldout,) = {utterance.speaker for utterance in corpus.heldout}
    assert heldout not in corpus.train.speakers and len(corpus.train) + len(corpus.heldout) == 18
    whole = FolderCorpus(music_dir, heldout_speakers=1)
    assert corpus.split.heldout_digest == whole.split.heldout_digest and corpus.split.kind == "music"
    pieces = [read_utterance(utterance) for utterance in corpus.utterances[:3]]
    np.testing.assert_array_equal(
        np.round(np.concatenate([piece.samples for piece in pieces]) * 32768).astype(np.int16), ramp(44_100, 4)
    )
    assert pieces[0].sample_rate_hz == 44_100
    assert {file.split for file in corpus.source_files()} == {"train", "heldout"}


def test_music_that_cannot_be_read_is_left_out(music_dir, tmp_path, capsys):
    settings = {"heldout_pieces": 1, "segment_seconds": 0.4, "cache_dir": tmp_path / "cache"}
    (music_dir / "waltz/take1.wav").write_bytes(b"")
    corpus = MusicCorpus(music_dir, **settings)
    assert len(corpus.utterances) == 15 and [entry.key for entry in corpus.left_out] == ["waltz/take1"]
    assert capsys.readouterr().err.count("waltz/take1.wav: it is empty") == 1
    # What changed is read again, the rest comes from the index.
    write_recording(music_dir / "waltz/take1.wav", ramp(44_100), 44_100)
    assert len(MusicCorpus(music_dir, **settings).utterances) == 18
    for path in music_dir.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the recordings in .* can be read: it is empty"):
        _ = MusicCorpus(music_dir, **settings).utterances
    for changes, message in (({"segment_seconds": 0}, "positive"), ({"heldout_pieces": -1}, "negative")):
        with pytest.raises(UserError, match=message):
            MusicCorpus(music_dir, **changes)
    with pytest.raises(UserError, match="local folder"):
        MusicCorpus("gs://bucket/music")
