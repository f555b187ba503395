#!/usr/bin/env python3
"""The table of docs/tpu.md: every experiment of the paper's size, checked for the TPU slices it is meant for.

    python benchmarks/tpu_table.py --output work/tpu_checks [--only coarse] [--write docs/tpu.md]

Each row is one `audiolm check ... --train_only --json`, in a process of its own: on two cores a minute for a stage,
five for the codec, two to ten for w2v-BERT XL. Rows that are done are kept in --output, so that a run that was stopped
goes on; `--again` checks them anew. `--write` puts the table between the two markers of a Markdown file, else it is
printed. Needs libtpu (pip install -e '.[check]').
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from markdown_table import check_markers, write_table

from audiolm_jax.check.chips import GIB

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("semantic", "coarse", "fine")
PAPER = "v4:2x2x4"
# Slice, and the setting of a stage for it.
OTHER_SLICES = (
    ("v5e:4x4", ""), ("v5p:4x4x4", " REMAT=none"), ("v6e:8x8", " REMAT=none"), ("v5e:16x16", "")
)  # fmt: skip
NAME = Path(__file__).name


def rows() -> list[tuple[str, str, int]]:
    """(experiment and its settings, topology, slices) of every row."""
    found = [(f"{stage}_librilight_paper", PAPER, 1) for stage in STAGES]
    found += [(f"{stage}_librilight_paper NUM_LAYERS=24", PAPER, 1) for stage in STAGES]
    found += [(name, PAPER, 1) for name in (
        "codec_librilight_paper", "w2v_bert_xl_librilight_paper", "kmeans_librilight_paper"
    )]  # fmt: skip
    for topology, setting in OTHER_SLICES:
        found += [(f"{stage}_librilight_paper{setting}", topology, 1) for stage in STAGES]
    # 16 chips of v5e are too few for w2v-BERT XL with a copy of it on each.
    found += [("w2v_bert_xl_librilight_paper", topology, 1) for topology in ("v5e:8x8", "v5p:4x4x4", "v6e:8x8")]
    found.append(("coarse_librilight_paper", "v5e:4x4", 2))
    found += [(f"{stage}_w2v_bert2_dac", PAPER, 1) for stage in STAGES]
    found += [(f"{stage}_hubert_encodec", PAPER, 1) for stage in STAGES]
    return found


def check(folder: Path, experiment: str, topology: str, slices: int, again: bool) -> dict:
    """The report of a row, from the folder if it is there."""
    name, *settings = experiment.split()
    path = folder / f"{'+'.join([name, *settings])}@{topology.replace(':', '_')}x{slices}.json"
    if path.exists() and not again:
        return json.loads(path.read_text())
    command = [sys.executable, "-m", "audiolm_jax.cli", "check", name, "--topology", topology]
    command += [f"--set={setting}" for setting in settings]
    command += ["--slices", str(slices), "--train_only", "--json", str(path)]
    print(" ".join(command[2:]), file=sys.stderr, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    print(f"  exit {done.returncode} after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if not path.exists():
        return {"experiment": experiment, "topology": topology, "failed": True}
    report = json.loads(path.read_text())
    if report["simulated"]:
        path.unlink()
        raise SystemExit("these are simulated devices, not TPUs; install libtpu")
    return report


def line(report: dict) -> str:
    """A row of the table."""
    if report.get("failed"):
        return f"| {report['experiment']} | {report['topology']} | not built |" + " |" * 9
    train = report["steps"][0]
    experiment = " ".join([report["experiment"], *report["settings"]])
    mesh = "x".join(str(report["mesh"][axis]) for axis in ("data", "fsdp", "tensor"))
    start = f"| {experiment} | {report['topology']} | {mesh} | {report['batch_size']} "
    hbm = f"| {train['needed_bytes'] / GIB:.1f} / {report['chip']['usable_hbm_bytes'] / GIB:.1f} "
    if not report["fits"]:
        return start + hbm + "| does not fit |" + " |" * 6
    flops, times = train["flops"], train["times"]
    if times is None:
        return f"{start}{hbm}| {flops['model'] / 1e12:.1f} | {flops['hardware'] / 1e12:.1f} | not readable |" + " |" * 4
    sent = {kind: use["ici_bytes"] + use["dcn_bytes"] for kind, use in train["collectives"].items()}
    by_size = sorted(sent.items(), key=lambda item: -item[1])
    largest = ", ".join(f"{kind} {size / 1e6:.0f}" for kind, size in by_size if size > 5e5)
    estimate = times["compiler_seconds"]
    return (
        start + hbm
        + f"| {flops['model'] / 1e12:.1f} | {flops['hardware'] / 1e12:.1f} | {train['chip_hbm_bytes'] / 1e9:.1f} "
        + f"| {largest or '-'} | {times['step_seconds'] * 1e3:.1f} | {train['mfu']:.1%} "
        + (f"| {estimate * 1e3:.0f} |" if estimate else "| - |")
    )  # fmt: skip


def table(reports: list[dict]) -> str:
    """The table in Markdown."""
    head = (
        "experiment", "topology", "mesh", "batch", "HBM GiB", "model TFLOP", "executed TFLOP", "HBM GB/chip",
        "sent MB/chip", "step ms", "MFU", "compiler's ms",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *map(line, reports)]
    built = next((report for report in reports if "versions" in report), None)
    if built:
        versions = ", ".join(f"{name} {version}" for name, version in built["versions"].items())
        lines += ["", f"Versions: {versions}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the reports, one JSON file a row")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with it in EXPERIMENT@TOPOLOGY")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the two markers")
    parser.add_argument("--again", action="store_true", help="check rows anew that are done")
    args = parser.parse_args()
    if args.write:
        check_markers(args.write, NAME)
    args.output.mkdir(parents=True, exist_ok=True)
    wanted = [row for row in rows() if args.only in f"{row[0]}@{row[1]}"]
    made = table([check(args.output, *row, args.again) for row in wanted])
    if args.write is None:
        print(made)
        return
    write_table(args.write, NAME, made)


if __name__ == "__main__":
    main()
