"""What is said in recordings, read from the files that corpora keep beside them.

Three formats, all of them where there are several:

- `transcripts.tsv`: utterance, speaker and text, or utterance and text, with tabs between them and no header;
- LibriSpeech's `*.trans.txt`: utterance, a space, text;
- `NAME.txt` beside a recording `NAME.flac`: the text.

The utterance of the first two is a recording's path below the folder of the transcript file, without suffix
("ls19/19-198-0001"), or the name of its file alone ("19-198-0001") if no other recording there is called so.
"""

import collections
import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from audiolm_jax.errors import UserError


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
            text = here.get(PurePosixPath(key).relative_to(above).as_posix())
            if text is None and name in here:
                if bearers[above, name] > 1:
                    raise UserError(
                        f"the transcripts in {Path(folder, above)} name an utterance {name!r}, which is the name of "
                        f"{bearers[above, name]} recordings; write the folder too, as in {key!r}"
                    )
                text = here[name]
            if text is not None:
                found[key] = text
                break
    return found


def _folders_above(key: str) -> list[str]:
    """Folders in which a recording lies, the nearest first."""
    return [parent.as_posix() for parent in PurePosixPath(key).parents]


def _read(path: Path, beside_recording: bool) -> dict[str, str]:
    """Texts of one file by utterance, none of them empty; of a file that holds no transcripts none."""
    try:
        if path.name == "transcripts.tsv":
            texts = _read_tsv(path)
        elif path.name.endswith(".trans.txt"):
            rows = (line.strip().partition(" ") for line in path.read_text(encoding="utf-8").splitlines())
            texts = {utterance: text for utterance, _, text in rows}
        elif path.suffix == ".txt" and beside_recording:
            texts = {path.stem: path.read_text(encoding="utf-8")}
        else:
            return {}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    tidy = {utterance: " ".join(text.split()) for utterance, text in texts.items()}
    return {utterance: text for utterance, text in tidy.items() if text}


def _read_tsv(path: Path) -> dict[str, str]:
    texts = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if not row:
                continue
            if len(row) not in (2, 3):
                raise UserError(f"{path}, line {number}: expected utterance, speaker and text with tabs between them")
            texts[row[0]] = row[-1]
    return texts
