#!/usr/bin/env python3
"""The tables of docs/tpu.md: every experiment of the paper's size, checked for the TPU slices it is meant for.

    python benchmarks/tpu_table.py --output work/tpu_checks [--only coarse] [--roofline] [--write docs/tpu.md]

Each row is one `audiolm check ... --train_only --json`, in a process of its own: on two cores a minute for a stage,
five for the codec, two to ten for w2v-BERT XL. With `--roofline` it is one `benchmarks/tpu_roofline.py`, which compiles
the same and gives the rows of both tables. Rows that are done are kept in --output, so that a run that was stopped goes
on; `--again` checks them anew. `--write` puts the tables between their markers in a Markdown file, else they are
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
# Of AudioLM's piano what differs from speech; its semantic stage, w2v-BERT and k-means compile to the same programs.
PIANO = ("coarse", "acoustic", "codec")
PAPER = "v4:2x2x4"
# Slice, and the setting of a stage for it.
OTHER_SLICES = (
    ("v5e:4x4", ""), ("v5p:4x4x4", " REMAT=none"), ("v6e:8x8", " REMAT=none"), ("v5e:16x16", "")
)  # fmt: skip
NAME = Path(__file__).name
COLUMNS = ("experiment", "topology", "mesh", "batch", "HBM GiB", "model TFLOP", "executed TFLOP", "least ms")
ROOFLINE_COLUMNS = (
    "experiment", "topology", "HBM GB/chip", "sent MB/chip", "step ms", "MFU", "compiler's ms"
)  # fmt: skip


def rows() -> list[tuple[str, str, int]]:
    """(experiment and its settings, topology, slices) of every row."""
    found = [(f"{stage}_librilight_paper", PAPER, 1) for stage in STAGES]
    found += [(f"{stage}_librilight_paper NUM_LAYERS=24", PAPER, 1) for stage in STAGES]
    found += [(name, PAPER, 1) for name in (
        "codec_librilight_paper", "w2v_bert_xl_librilight_paper", "kmeans_librilight_paper"
    )]  # fmt: skip
    found += [(f"{name}_maestro_paper", PAPER, 1) for name in PIANO]
    for topology, setting in OTHER_SLICES:
        found += [(f"{stage}_librilight_paper{setting}", topology, 1) for stage in STAGES]
    # 16 chips of v5e are too few for w2v-BERT XL with a copy of it on each.
    found += [("w2v_bert_xl_librilight_paper", topology, 1) for topology in ("v5e:8x8", "v5p:4x4x4", "v6e:8x8")]
    found.append(("coarse_librilight_paper", "v5e:4x4", 2))
    found += [(f"{stage}_w2v_bert2_dac", PAPER, 1) for stage in STAGES]
    found += [(f"{stage}_hubert_encodec", PAPER, 1) for stage in STAGES]
    return found


def check(folder: Path, experiment: str, topology: str, slices: int, with_roofline: bool, again: bool) -> dict:
    """The report of a row, from the folder if it is there."""
    name, *settings = experiment.split()
    path = folder / f"{'+'.join([name, *settings])}@{topology.replace(':', '_')}x{slices}.json"
    if path.exists() and not again:
        report = json.loads(path.read_text())
        if not with_roofline or not report["fits"] or "roofline" in report["steps"][0]:
            return report
    run = ["benchmarks/tpu_roofline.py"] if with_roofline else ["-m", "audiolm_jax.cli", "check"]
    command = [*run, name, "--topology", topology, "--slices", str(slices), "--train_only"]
    command += ["--json", str(path.resolve())] + [f"--set={setting}" for setting in settings]
    print(" ".join(command), file=sys.stderr, flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    print(f"  exit {done.returncode} after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if not path.exists():
        return {"experiment": name, "settings": settings, "topology": topology, "failed": True}
    report = json.loads(path.read_text())
    if report["simulated"]:
        path.unlink()
        raise SystemExit("these are simulated devices, not TPUs; install libtpu")
    return report


def name_of(report: dict) -> str:
    """An experiment with its settings."""
    return " ".join([report["experiment"], *report["settings"]])


def line(report: dict) -> tuple[str, ...]:
    """A row of the table of `audiolm check`."""
    if report.get("failed"):
        return name_of(report), report["topology"], "not built", "", "", "", "", ""
    train = report["steps"][0]
    mesh = "x".join(str(report["mesh"][axis]) for axis in ("data", "fsdp", "tensor"))
    memory = f"{train['needed_bytes'] / GIB:.1f} / {report['chip']['usable_hbm_bytes'] / GIB:.1f}"
    flops = [f"{train['flops'][which] / 1e12:.1f}" for which in ("model", "hardware")]
    least = f"{train['least_seconds'] * 1e3:.1f}" if report["fits"] else "does not fit"
    return name_of(report), report["topology"], mesh, str(report["batch_size"]), memory, *flops, least


def roofline_line(report: dict) -> tuple[str, ...]:
    """A row of the table of the roofline, of a step that fits."""
    found = report["steps"][0]["roofline"]
    sent = {kind: use["ici_bytes"] + use["dcn_bytes"] for kind, use in found["sent"].items()}
    by_size = sorted(sent.items(), key=lambda item: -item[1])
    largest = ", ".join(f"{kind} {size / 1e6:.0f}" for kind, size in by_size if size > 5e5)
    seconds, estimate = found["times"]["step_seconds"], found["times"]["compiler_seconds"]
    return (
        name_of(report), report["topology"], f"{found['hbm_bytes'] / 1e9:.1f}", largest or "-", f"{seconds * 1e3:.1f}",
        f"{found['mfu']:.1%}", f"{estimate * 1e3:.0f}" if estimate else "-",
    )  # fmt: skip


def in_markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def versions(reports: list[dict]) -> str:
    """The line below the tables."""
    built = next((report for report in reports if "versions" in report), None)
    return "" if built is None else (
        "\nVersions: " + ", ".join(f"{name} {version}" for name, version in built["versions"].items()) + ".\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the reports, one JSON file a row")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with it in EXPERIMENT@TOPOLOGY")
    parser.add_argument("--roofline", action="store_true", help="the table of the roofline too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with the markers of the tables")
    parser.add_argument("--again", action="store_true", help="check rows anew that are done")
    args = parser.parse_args()
    names = [NAME, f"{NAME} roofline"] if args.roofline else [NAME]
    for name in names if args.write else ():
        check_markers(args.write, name)
    args.output.mkdir(parents=True, exist_ok=True)
    wanted = [row for row in rows() if args.only in f"{row[0]}@{row[1]}"]
    reports = [check(args.output, *row, args.roofline, args.again) for row in wanted]
    made = [in_markdown(COLUMNS, list(map(line, reports))) + versions(reports)]
    if args.roofline:
        timed = [report for report in reports if report.get("fits")]
        made.append(in_markdown(ROOFLINE_COLUMNS, list(map(roofline_line, timed))) + versions(timed))
    for name, table in zip(names, made, strict=True):
        if args.write is None:
            print(table)
        else:
            write_table(args.write, name, table)


if __name__ == "__main__":
    main()
