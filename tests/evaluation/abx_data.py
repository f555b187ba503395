"""A small ABX task made of a seed, with the cases that definitions part on, and its answer by plain loops."""

import math
from pathlib import Path

import numpy as np

HEADER = "#file onset offset #phone prev-phone next-phone speaker"
PHONES, CONTEXTS, SPEAKERS = ("aa", "iy", "uw"), (("b", "t"), ("s", "n")), ("anna", "ben", "cleo")
FILES = tuple(f"made{number}" for number in range(4))
NUM_FRAMES, NUM_DIMS = 60, 7


def made_rows(seed: int = 0) -> list[str]:
    """73 rows: ordinary ones, and such as have one frame, none, or more than the file has."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(70):
        onset = round(1.15 * rng.random(), 3)
        offset = onset + (0.03, 0.05, 0.08, 0.12, 0.16)[int(5 * rng.random())]
        file, phone, speaker = (names[int(len(names) * rng.random())] for names in (FILES, PHONES, SPEAKERS))
        before, after = CONTEXTS[int(2 * rng.random())]
        rows.append(f"{file} {onset:.4f} {offset:.4f} {phone} {before} {after} {speaker}")
    # One phone in its context, one speaker who has no other phone, one token alone.
    return [*rows, "made0 0.1 0.2 zz b t anna", "made1 0.2 0.3 aa x y ben", "made2 0.3 0.4 zz s n dora"]


def made_features(seed: int = 0, silent_share: float = 0.0) -> dict[str, np.ndarray]:
    """float32[60, 7] for each file: noise around a slow movement, some frames all zero."""
    rng = np.random.default_rng(1000 + seed)
    features = {}
    for name in FILES:
        frames = rng.random((NUM_FRAMES, NUM_DIMS)) - 0.5
        frames = (frames + np.roll(frames, 1, axis=0) + np.roll(frames, 2, axis=0)).astype(np.float32)
        frames[rng.random(NUM_FRAMES) < silent_share] = 0
        features[name] = frames
    return features


def write_task(folder: Path, rows: list[str], features: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """(item file, folder of features)."""
    item, arrays = folder / "made.item", folder / "features"
    arrays.mkdir(parents=True, exist_ok=True)
    item.write_text("\n".join([HEADER, *rows]) + "\n")
    for name, frames in features.items():
        np.save(arrays / f"{name}.npy", frames)
    return item, arrays


def frame_distance(x: np.ndarray, y: np.ndarray, distance: str) -> float:
    """Of two frames; silence is at 0 from silence and far from all else."""
    silent = not x.any(), not y.any()
    if any(silent):
        far = 1.0 if distance == "cosine" else 2e12
        return 0.0 if all(silent) else far
    x, y = (z.astype(np.float64) / math.sqrt(sum(float(v) ** 2 for v in z)) for z in (x, y))
    if distance == "cosine":
        return math.acos(min(1.0, max(-1.0, float(x @ y)))) / math.pi
    return math.sqrt(float(((x - y) ** 2).sum()))


def warped_distance(x: np.ndarray, y: np.ndarray, distance: str) -> float:
    """Of two segments [t, D], by recursion over (cost, path) of the last cells."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i in range(len(x)):
        for j in range(len(y)):
            here = frame_distance(x[i], y[j], distance)
            before = [best[cell] for cell in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if cell in best]
            cost, steps = min(before, key=lambda found: found[0]) if before else (0.0, 0)
            best[i, j] = cost + here, steps + 1
    cost, steps = best[len(x) - 1, len(y) - 1]
    return cost / steps


def plain_abx(rows: list[str], features: dict[str, np.ndarray], seconds: float, distance: str = "cosine"):
    """(within, across), as fractions or None, triple by triple."""
    tokens: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for row in rows:
        file, onset, offset, phone, before, after, speaker = row.split()
        if file not in features:
            continue
        step = 1 / seconds
        first, end = math.ceil(step * float(onset) - 0.5), math.floor(step * float(offset) - 0.5)
        segment = features[file][max(0, first) : max(0, end)]
        if len(segment):
            tokens.setdefault((f"{before} {after}", speaker, phone), []).append(segment)
    found = {"within": {}, "across": {}}
    for context, speaker, a in sorted(tokens):
        for _, _, b in (key for key in sorted(tokens) if key[:2] == (context, speaker) and key[2] != a):
            for x_speaker in (key[1] for key in sorted(tokens) if (key[0], key[2]) == (context, a)):
                errors = []
                for i, x in enumerate(tokens[context, x_speaker, a]):
                    for k, token in enumerate(tokens[context, speaker, a]):
                        if x_speaker == speaker and i == k:
                            continue
                        to_a = warped_distance(x, token, distance)
                        for other in tokens[context, speaker, b]:
                            to_b = warped_distance(x, other, distance)
                            errors.append(0.5 if to_a == to_b else float(to_a > to_b))
                if errors:
                    kind = found["within" if x_speaker == speaker else "across"]
                    kind.setdefault((a, b), {}).setdefault(speaker, []).append(_mean(errors))
    return tuple(
        _mean([_mean([_mean(cells) for cells in speakers.values()]) for speakers in kind.values()]) if kind else None
        for kind in found.values()
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
