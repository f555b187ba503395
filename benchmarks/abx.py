#!/usr/bin/env python3
"""Times `audiolm eval abx`, start-up and compilation included, and Libri-light's evaluator if it is there.

    python benchmarks/abx.py [--item FILE --features DIR --feature_seconds S] [--peer DIR [--peer_python PYTHON]]

Without --item it makes features and items of its own: 40 recordings of 30 s by 8 speakers, 100 frames a second of 39
dimensions, 6000 triphones. Groups are not capped, so "within" must be the same. Speakers of X are, at 5, because
Libri-light's progress bar stops it at more; it draws them by chance, so "across" differs a little.

--peer is the folder `eval` of a checkout of github.com/facebookresearch/libri-light, whose ABX_src is compiled there
(`cd ABX_src && python setup.py build_ext --inplace`); --peer_python is a Python with torch and progressbar2.

One JSON object per figure: {"figure": "abx", "seconds", "within", "across"}, the same as "abx_libri_light", and
{"figure": "abx_speedup", "ratio"}.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
NUM_SPEAKERS, FILES_PER_SPEAKER, FILE_SECONDS, FRAMES_PER_SECOND, NUM_DIMS = 8, 5, 30, 100, 39
PHONES, CONTEXTS = tuple("abcdefgh"), tuple(f"n{number} m{number}" for number in range(12))


def write_data(folder: Path) -> tuple[Path, Path]:
    """Random features in which phones differ a little, and their item file: (item file, folder of features)."""
    rng = np.random.default_rng(0)
    means = {phone: rng.normal(size=NUM_DIMS) for phone in PHONES}
    rows = ["#file onset offset #phone prev-phone next-phone speaker"]
    (folder / "features").mkdir()
    for speaker in range(NUM_SPEAKERS):
        for number in range(FILES_PER_SPEAKER):
            name = f"s{speaker}_{number}"
            features = rng.normal(size=(FILE_SECONDS * FRAMES_PER_SECOND, NUM_DIMS))
            for onset in np.arange(0, FILE_SECONDS - 0.6, 0.2):
                offset = onset + rng.uniform(0.1, 0.4)
                phone, context = PHONES[rng.integers(len(PHONES))], CONTEXTS[rng.integers(len(CONTEXTS))]
                features[int(onset * FRAMES_PER_SECOND) : int(offset * FRAMES_PER_SECOND)] += means[phone]
                rows.append(f"{name} {onset:.4f} {offset:.4f} {phone} {context} speaker{speaker}")
            np.save(folder / "features" / f"{name}.npy", features.astype(np.float32))
    (folder / "made.item").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "made.item", folder / "features"


def run_ours(item: Path, features: Path, feature_seconds: str) -> dict:
    """One run of the command, in a process of its own."""
    command = [sys.executable, "-m", "audiolm_jax.cli", "eval", "abx", "--item", str(item), "--features", str(features),
               "--feature_seconds", feature_seconds, "--max_group_size", "0", "--json", "-"]  # fmt: skip
    started = time.perf_counter()
    made = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - started
    figures = json.loads(made.stdout)
    return {
        "figure": "abx",
        "seconds": round(seconds, 2),
        **{name: figures[name] for name in ("within", "across")},
        "distances": figures["counts"]["distances"],
    }


def run_peer(peer: Path, python: str, item: Path, features: Path, feature_seconds: str) -> dict:
    """One run of Libri-light's eval_ABX.py."""
    with tempfile.TemporaryDirectory() as output:
        command = [python, "eval_ABX.py", str(features), str(item), "--file_extension", ".npy", "--feature_size",
                   feature_seconds, "--max_size_group", "1000000", "--out", output]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, cwd=peer, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        scores = json.loads((Path(output) / "ABX_scores.json").read_text())
    return {"figure": "abx_libri_light", "seconds": round(seconds, 2), **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--item", type=Path, metavar="FILE", help="an item file; made up by default")
    parser.add_argument("--features", type=Path, metavar="DIR", help="NAME.npy for every file of the item file")
    parser.add_argument("--feature_seconds", default="0.01", metavar="S", help="seconds per frame (default 0.01)")
    parser.add_argument("--peer", type=Path, metavar="DIR", help="the folder eval of a checkout of Libri-light")
    parser.add_argument("--peer_python", default=sys.executable, metavar="PYTHON", help="default: this one")
    args = parser.parse_args()
    if (args.item is None) != (args.features is None):
        parser.error("give --item and --features, or neither")
    with tempfile.TemporaryDirectory() as folder:
        item, features = (args.item, args.features) if args.item else write_data(Path(folder))
        item, features = item.resolve(), features.resolve()
        ours = run_ours(item, features, args.feature_seconds)
        print(json.dumps(ours), flush=True)
        if args.peer:
            peer = run_peer(args.peer.resolve(), args.peer_python, item, features, args.feature_seconds)
            print(json.dumps(peer), flush=True)
            print(json.dumps({"figure": "abx_speedup", "ratio": round(peer["seconds"] / ours["seconds"], 1)}))


if __name__ == "__main__":
    main()
