"""What is said in recordings, read from the files that corpora keep beside them.

Three formats, all of them where there are several:

- `transcripts.tsv`: utterance, speaker and text, or utterance and text, with tabs between them and no header;
- LibriSpeech's `*.trans.txt`: utterance, a space or a tab, text;
- `NAME.txt` beside a recording `NAME.flac`: the text.

The utterance of the first two is a recording's path below the folder of the transcript file ("ls19/19-198-0001"), or
the name of its file alone ("19-198-0001") if no other recording there is called so. Spaces around it, "./" in it and
the suffix of an audio file behind it ("./ls19/19-198-0001.flac ") do not count, nor does a byte-order mark.
"""

import collections
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from audiolm_jax.audio import AUDIO_SUFFIXES
from audiolm_jax.errors import UserError, shown


def read_transcripts(folder: str | Path, keys: Iterable[str]) -> dict[str, str]:
    """What is said in recordings, by their key; those of which nothing is known are left out.

    Args:
        folder: with transcript files in it or below it.
        keys: of the recordings: their paths below the folder, or below another of the same layout, without suffix.

    Raises:
        UserError: a line of a transcript file has no text column, the file is not UTF-8 text, or it names an
            utterance by a file name that several recordings have.
    """
    keys = set(keys)
    texts: dict[str, dict[str, str]] = {}
    for path in sorted(Path(folder).rglob("*.tsv")) + sorted(Path(folder).rglob("*.txt")):
        below = path.parent.relative_to(folder)
        if not path.name.startswith("."):
            texts.setdefault(below.as_posix(), {}).update(_read(path, (below / path.stem).as_posix() in keys))
    bearers = collections.Counter((above, PurePosixPath(key).name) for key in keys for above in _folders_above(key))
    found = {}
    for key in keys:
        name = PurePosixPath(key).name
        for above in _folders_above(key):
            here = texts.get(above, {})
            text = here.get(_as_path(PurePosixPath(key).relative_to(above).as_posix()))
            if text is None and _as_path(name) in here:
                if bearers[above, name] > 1:
                    raise UserError(
                        f"the transcripts in {Path(folder, above)} name an utterance {shown(name)}, which is the name "
                        f"of {bearers[above, name]} recordings; write the folder too, as in {shown(key)}"
                    )
                text = here[_as_path(name)]
            if text is not None:
                found[key] = text
                break
    return found


def read_texts(path: Path) -> list[str]:
    """All texts of one file: a .tsv file and a *.trans.txt file as above, of any other file the whole.

    Raises:
        UserError: as `read_transcripts`, or the file is missing.
    """
    read = _read_tsv if path.suffix == ".tsv" else _read_trans if path.name.endswith(".trans.txt") else _read_whole
    return list(read(path, _content(path)).values())


def _folders_above(key: str) -> list[str]:
    """Folders in which a recording lies, the nearest first."""
    return [parent.as_posix() for parent in PurePosixPath(key).parents]


def _read(path: Path, beside_recording: bool) -> dict[str, str]:
    """Texts of one file by utterance, none of them empty; of a file that holds no transcripts none."""
    if path.name == "transcripts.tsv":
        read = _read_tsv
    elif path.name.endswith(".trans.txt"):
        read = _read_trans
    elif path.suffix == ".txt" and beside_recording:
        read = _read_whole
    else:
        return {}
    if not path.is_file():
        return {}
    texts = read(path, _content(path))
    tidy = {utterance: " ".join(text.split()) for utterance, text in texts.items()}
    return _by_name({utterance: text for utterance, text in tidy.items() if text})


def _content(path: Path) -> str:
    try:
        # Editors of Windows begin a file of text with a byte-order mark, which is no part of the first name.
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error


# Lines end where a text file has line ends: `splitlines` also cuts at marks that may stand within a sentence (U+2028).


def _read_tsv(path: Path, content: str) -> dict[str, str]:
    texts = {}
    for number, line in enumerate(content.split("\n"), 1):
        if not line:
            continue
        row = line.split("\t")
        if len(row) not in (2, 3):
            raise UserError(f"{path}, line {number}: expected utterance, speaker and text with tabs between them")
        texts[row[0]] = row[-1]
    return texts


def _read_trans(_: Path, content: str) -> dict[str, str]:
    rows = (line.split(maxsplit=1) for line in content.split("\n"))
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _read_whole(path: Path, content: str) -> dict[str, str]:
    return {path.stem: content}


def _by_name(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts by what their recordings may be called: the utterance as a path, also without an audio file's suffix.

    A recording whose own name ends like a suffix ("a.wav" of a.wav.flac) has the text of just that name first.
    """
    named = {_as_path(utterance): text for utterance, text in texts.items()}
    paths = {PurePosixPath(name): text for name, text in named.items()}
    bare = {
        path.with_suffix("").as_posix(): text for path, text in paths.items() if path.suffix.lower() in AUDIO_SUFFIXES
    }
    return bare | named


def _as_path(utterance: str) -> str:
    """An utterance without spaces around it and "./" in it."""
    return PurePosixPath(utterance.strip()).as_posix()
