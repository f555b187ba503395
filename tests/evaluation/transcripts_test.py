"""Which text belongs to which recording, in each of the formats."""

import pytest

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import find_recordings
from audiolm_jax.evaluation.words.transcripts import read_transcripts


def write(folder, texts):
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_a_table_by_file_name_or_by_path(tmp_path):
    write(tmp_path, {"transcripts.tsv": "19-1-0\ta\tHELLO THERE\nb/x\tb\tyes\nc/y\t no  way \n\nd/z\td\t\n"})
    keys = ["a/19-1-0", "b/x", "c/y", "d/z", "e/x"]
    assert read_transcripts(tmp_path, keys) == {"a/19-1-0": "HELLO THERE", "b/x": "yes", "c/y": "no way"}


def test_equal_file_names_of_different_speakers_keep_their_own_texts(tmp_path):
    write(tmp_path, {"transcripts.tsv": "a/0000\ta\tone\nb/0000\tb\ttwo\n", "c/0000.txt": "three\n"})
    keys = ["a/0000", "b/0000", "c/0000", "d/0000"]
    assert read_transcripts(tmp_path, keys) == {"a/0000": "one", "b/0000": "two", "c/0000": "three"}


def test_a_file_name_of_several_recordings_is_refused(tmp_path):
    write(tmp_path, {"transcripts.tsv": "0000\tone\n"})
    with pytest.raises(UserError, match="'0000', which is the name of 2 recordings; write the folder too"):
        read_transcripts(tmp_path, ["a/0000", "b/0000"])


def test_a_table_holds_for_its_own_folder_alone(tmp_path):
    write(tmp_path, {"a/transcripts.tsv": "0\tone\n", "b/transcripts.tsv": "0\ttwo\ndeep/1\tthree\n"})
    keys = ["a/0", "b/0", "b/deep/1", "c/0"]
    assert read_transcripts(tmp_path, keys) == {"a/0": "one", "b/0": "two", "b/deep/1": "three"}


def test_librispeech_and_files_beside_the_audio(tmp_path):
    write(
        tmp_path,
        {
            "84/121/84-121.trans.txt": "84-121-0000 GO  DO YOU HEAR\n84-121-0001 \n",
            "84/121/84-121-0002.txt": "beside\nthe audio\n",
            "SPEAKERS.TXT": "84 | F",
            "README.txt": "84-121-0003 is not said here",
            "84/.hidden.trans.txt": "84-121-0003 hidden",
        },
    )
    keys = [f"84/121/84-121-000{n}" for n in range(4)]
    assert read_transcripts(tmp_path, keys) == {keys[0]: "GO DO YOU HEAR", keys[2]: "beside the audio"}


@pytest.mark.parametrize("name", ["transcripts.tsv", "x.trans.txt"])
@pytest.mark.parametrize(
    "utterance",
    [
        "\ufeffa/0", "a/0 ", " a/0", "./a/0", "a//0", "a/0.wav", "./a/0.FLAC ", "a/./0.ogg", "0", "./0.wav",
        "\ufeff0.mp3 ",
    ],
)  # fmt: skip
def test_spaces_dots_suffixes_and_marks_are_no_part_of_a_name(name, utterance, tmp_path):
    write(tmp_path, {name: f"{utterance}\tthe first line\nb/1\tthe second\n"})
    assert read_transcripts(tmp_path, ["a/0", "b/1"]) == {"a/0": "the first line", "b/1": "the second"}


def test_a_name_that_ends_like_a_suffix_is_a_name_first(tmp_path):
    write(tmp_path, {"transcripts.tsv": "a.wav\tof a.wav.flac\na\tof a.flac\nb.v2\tanother\n"})
    texts = {"a.wav": "of a.wav.flac", "a": "of a.flac", "b.v2": "another"}
    assert read_transcripts(tmp_path, ["a", "a.wav", "b.v2", "b"]) == texts


def test_a_mark_before_the_text_beside_a_recording_is_no_part_of_it(tmp_path):
    write(tmp_path, {"a/0.txt": "\ufeffHELLO THERE\r\n"})
    assert read_transcripts(tmp_path, ["a/0"]) == {"a/0": "HELLO THERE"}


def test_lines_end_where_a_text_file_has_line_ends(tmp_path):
    spoken = "one\u2028two\u0085three\x0cfour"
    write(tmp_path, {"a.trans.txt": f"a/0 {spoken}\r\na/1\tmore\n", "b/transcripts.tsv": f"0\t{spoken}\r\n"})
    texts = read_transcripts(tmp_path, ["a/0", "a/1", "b/0"])
    assert texts == {"a/0": "one two three four", "a/1": "more", "b/0": "one two three four"}


def test_a_long_text_and_a_folder_of_a_transcript_name(tmp_path):
    write(tmp_path, {"transcripts.tsv": "a/0\t" + "word " * 50_000, "b/transcripts.tsv/note.txt": "no transcript"})
    assert read_transcripts(tmp_path, ["a/0"])["a/0"].split() == ["word"] * 50_000


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    write(tmp_path, {"a/transcripts.tsv": "x\ty\tz\tw\n"})
    with pytest.raises(UserError, match="line 1: expected utterance, speaker and text"):
        read_transcripts(tmp_path, ["x"])
    (tmp_path / "a" / "transcripts.tsv").write_bytes(b"x\t\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_transcripts(tmp_path, ["x"])


def test_recordings_have_them_also_from_another_folder(tmp_path):
    for name in ("a/0", "a/1", "b/0"):
        write_audio(tmp_path / "audio" / f"{name}.wav", Waveform([0.1] * 1600, 16_000))
    write(tmp_path, {"audio/a/0.txt": "beside", "texts/transcripts.tsv": "a/1\tapart\n", "texts/b/0.txt": "alike"})
    beside = find_recordings([tmp_path / "audio"])
    assert {r.key: r.text for r in beside} == {"a/0": "beside", "a/1": None, "b/0": None}
    apart = find_recordings([tmp_path / "audio"], transcripts=tmp_path / "texts")
    assert {r.key: r.text for r in apart} == {"a/0": None, "a/1": "apart", "b/0": "alike"}
