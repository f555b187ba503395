"""Gold files and scores in ZeroSpeech 2021's formats, drawn from a seed, with ties and words of every frequency."""

import csv
import random
from pathlib import Path

VOICES = ("A", "B", "C", "D")
FREQUENCIES = (0, 0, 1, 4, 5, 19, 20, 99, 100, 101, 5000)
LEXICAL_COLUMNS = ("filename", "id", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC_COLUMNS = ("filename", "id", "voice", "type", "subtype", "transcription", "correct")
SUBTYPES = (("agreement", "simple"), ("agreement", "relative"), ("binding", "simple"), ("npi", "only"))


def lexical_trials(seed: int, num_pairs: int = 60) -> list[tuple[dict, dict]]:
    """(word row, non-word row) of every pair and voice, in a drawn order."""
    rng = random.Random(seed)
    trials = []
    for pair in range(num_pairs):
        frequency, length = FREQUENCIES[int(rng.random() * len(FREQUENCIES))], 3 + int(rng.random() * 6)
        for voice in VOICES[: 1 + int(rng.random() * len(VOICES))]:
            shared = {"id": pair, "voice": voice, "phones": "AH", "length": length}
            word = {"filename": f"w{pair}{voice}", "frequency": frequency, "word": f"word{pair}", "correct": 1}
            other = {"filename": f"n{pair}{voice}", "frequency": "", "word": f"drow{pair}", "correct": 0}
            trials.append((shared | word, shared | other))
        if pair % 10 == 0:  # the last voice speaks the pair twice
            trials.append(tuple(row | {"filename": f"{row['filename']}again"} for row in trials[-1]))
    return sorted(trials, key=lambda _: rng.random())


def syntactic_trials(seed: int, num_pairs: int = 15) -> list[tuple[dict, dict]]:
    """(correct row, incorrect row) of every pair of every subtype and voice, in a drawn order; ids repeat."""
    rng = random.Random(seed)
    trials = []
    for number, (kind, subtype) in enumerate(SUBTYPES):
        for pair in range(num_pairs - number):
            for voice in VOICES[: 1 + int(rng.random() * len(VOICES))]:
                shared = {"id": pair, "voice": voice, "type": kind, "subtype": subtype}
                name = f"{number}x{pair}{voice}"
                correct = {"filename": f"c{name}", "transcription": "the cats sleep", "correct": 1}
                other = {"filename": f"i{name}", "transcription": "the cats sleeps", "correct": 0}
                trials.append((shared | correct, shared | other))
    return sorted(trials, key=lambda _: rng.random())


def rows_of(trials: list[tuple[dict, dict]], seed: int) -> list[dict]:
    """Rows in a drawn order in which the i-th correct one still belongs to the i-th incorrect one."""
    rng = random.Random(seed + 1)
    sides = [iter([correct for correct, _ in trials]), iter([incorrect for _, incorrect in trials])]
    order = sorted([0, 1] * len(trials), key=lambda _: rng.random())
    return [next(sides[side]) for side in order]


def write_gold(path: Path, columns: tuple[str, ...], rows: list[dict]) -> Path:
    """gold.csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    return path


def draw_scores(rows: list[dict], seed: int) -> dict[str, float]:
    """A score by stem, coarse enough for ties; what is correct is a little likelier."""
    rng = random.Random(seed + 2)
    return {row["filename"]: round(-5 + 2 * rng.random() + 0.3 * row["correct"], 1) for row in rows}


def write_scores(path: Path, scores: dict[str, float]) -> Path:
    """A submission."""
    path.write_text("".join(f"{stem} {score}\n" for stem, score in scores.items()))
    return path
