"""Files of text: transcripts, item files, gold files and scores, what was heard, and gin files."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from audiolm_jax.evaluation.abx.item_file import frame_spans, read_item_file
from audiolm_jax.evaluation.language.gold import SBLIMP, SWUGGY, read_gold
from audiolm_jax.evaluation.language.scores import ScoredRecording, ScoreFile, read_scores
from audiolm_jax.evaluation.words.hypotheses import CACHE_NAME, read_cache
from audiolm_jax.evaluation.words.text_normalisation import normalise
from audiolm_jax.evaluation.words.transcripts import read_transcripts
from audiolm_jax.training import experiment
from audiolm_jax.training.macros import configuration
from tests.evaluation.abx_data import HEADER, made_rows
from tests.evaluation.zerospeech_files import (
    LEXICAL_COLUMNS,
    SYNTACTIC_COLUMNS,
    draw_scores,
    lexical_trials,
    rows_of,
    syntactic_trials,
    write_gold,
    write_scores,
)
from tests.fuzz.damage import damage_text
from tests.fuzz.file_kind import FileKind, damage_json_lines, each_by, one_of

_KEYS = ("a/19-1-0", "a/19-1-1", "b/x", "b/y", "c/z")
_ASR = "pocketsphinx-5"
_EXPERIMENTS = ("codec_small", "coarse_small", "w2v_bert_small")


def kinds() -> list[FileKind]:
    """All of them."""
    text = each_by({"": damage_text})
    return [
        FileKind("item file", 30, _item_file, text, _read_item_file),
        FileKind("transcripts", 16, _transcripts, text, _read_transcripts),
        FileKind("hypotheses", 20, _hypotheses, one_of(text, each_by({"": damage_json_lines})), _read_heard),
        FileKind("gold file", 14, _gold_files, text, _read_gold_files),
        FileKind("scores", 20, _score_files, text, _read_score_files),
        FileKind("gin file", 2, _gin_files, text, _read_gin_files),
    ]


def _item_file() -> dict[str, bytes]:
    return {"x.item": "\n".join([HEADER, *made_rows()[:20]]).encode() + b"\n"}


def _read_item_file(folder: Path) -> None:
    items = read_item_file(folder / "x.item")
    frame_spans(items.onset_seconds, items.offset_seconds, np.full(len(items), 100), 0.01)


def _transcripts() -> dict[str, bytes]:
    return {
        "transcripts.tsv": "a/19-1-0\ta\tHELLO THERE\nb/x.wav\tdon\u2019t, 1,005 caf\u00e9s\nc/z\t\n".encode(),
        "a/19-1.trans.txt": b"19-1-0 GO  DO YOU HEAR\n19-1-1\tco\xc2\xadoperate\n",
        "b/y.txt": "\ufeffbeside\nthe audio\r\n".encode(),
    }


def _read_transcripts(folder: Path) -> None:
    for text in read_transcripts(folder, _KEYS).values():
        normalise(text)


def _hypotheses() -> dict[str, bytes]:
    lines = [
        {"asr": _ASR, "sha256": f"{number:064x}", "text": f"heard {number} \u00e9", "sample_rate_hz": 16_000}
        for number in range(4)
    ]
    return {CACHE_NAME: "".join(json.dumps(line) + "\n" for line in lines).encode()}


def _read_heard(folder: Path) -> None:
    for heard in read_cache(folder, _ASR).values():
        normalise(heard.text).encode()


def _gold_files() -> dict[str, bytes]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_gold(folder / "lexical.csv", LEXICAL_COLUMNS, rows_of(lexical_trials(0, 6), 0))
        write_gold(folder / "syntactic.csv", SYNTACTIC_COLUMNS, rows_of(syntactic_trials(0, 4), 0))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _read_gold_files(folder: Path) -> None:
    # The whole one of the two is read too: both kinds of columns, in one folder.
    for name, task in (("lexical.csv", SWUGGY), ("syntactic.csv", SBLIMP)):
        gold = read_gold(folder / name, task, max_pairs=3)
        assert gold.stems == sorted(gold.stems)


def _score_files() -> dict[str, bytes]:
    settings = {"bundle": "tiny", "stage": "semantic"}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_scores(folder / "ready.txt", draw_scores(rows_of(lexical_trials(0, 3), 0), 0))
        ScoreFile(folder / "ours.txt", settings).add(
            ScoredRecording(f"w{number}", -10.5 * number - 1, 7 + number, f"{number:016x}", 16_000)
            for number in range(5)
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _read_score_files(folder: Path) -> None:
    for name in ("ready.txt", "ours.txt"):
        read_scores(folder / name)


def _gin_files() -> dict[str, bytes]:
    [root, *_] = configuration.search_paths()
    return {f"{name}.gin": (root / "gin" / "exp" / f"{name}.gin").read_bytes() for name in _EXPERIMENTS}


def _read_gin_files(folder: Path) -> None:
    for path in sorted(folder.glob("*.gin")):
        if path.read_bytes() != _gin_files().get(path.name):
            experiment.load(path, data="/nowhere")
