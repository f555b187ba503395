"""Tokenizes a folder with several numbers of workers, with both engines and through kills, and compares every byte.

    python -m tests.tokens.worker_counts --input speech/ --workdir /tmp/workers --workers 1,2,4 --processes 2 --kills 5

Three bad files (one empty, one cut short, one with bytes overwritten) are planted beside the input, which itself is
only linked to. Prints a table; exits with 1 if two runs differ or a run lists anything but the three as left out. Takes
a pass over the input for each run; not a part of the test suite.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLANTED = ("planted/corrupt", "planted/empty", "planted/truncated")


def plant(source: Path, folder: Path) -> Path:
    """A folder of links to the speakers of `source`, and the bad files."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "planted").mkdir(parents=True)
    for entry in source.iterdir():
        (folder / entry.name).symlink_to(entry.resolve())
    data = next(path for path in sorted(source.rglob("*.flac"))).read_bytes()
    quarter, middle = len(data) // 4, len(data) // 2
    (folder / "planted" / "empty.flac").write_bytes(b"")
    (folder / "planted" / "truncated.flac").write_bytes(data[:middle])
    overwritten = random.Random(0).randbytes(middle - quarter)
    (folder / "planted" / "corrupt.flac").write_bytes(data[:quarter] + overwritten + data[middle:])
    return folder


def start(args, output: Path, engine_args: list[str], **environment: str) -> subprocess.Popen:
    """One `audiolm tokenize`, in a process group of its own."""
    command = [sys.executable, "-m", "audiolm_jax.cli", "tokenize", "--input", str(args.workdir / "input")]
    command += ["--output", str(output), "--bundle", args.bundle, "--files_per_shard", str(args.files_per_shard)]
    command += ["--json", f"{output}.json", *engine_args]
    with open(f"{output}.log", "a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stderr=log, stdout=log, start_new_session=True, env=os.environ | environment
        )


def finish(processes: list[subprocess.Popen]) -> None:
    """Waits for a job, and stops the comparison if it fails."""
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"a job ended with {codes}; its log is beside its output")


def job_of_processes(args, output: Path) -> list[subprocess.Popen]:
    """The jax engine in several processes of two simulated devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        "AUDIOLM_COORDINATOR": f"localhost:{port}",
        "AUDIOLM_NUM_PROCESSES": str(args.processes),
        "JAX_NUM_CPU_DEVICES": "2",
    }
    return [
        start(args, output, ["--engine", "jax"], **environment, AUDIOLM_PROCESS_ID=str(index))
        for index in range(args.processes)
    ]


def killed_job(args, output: Path) -> int:
    """Kills jobs of two workers at random moments, then lets one end; returns the shards that the kills left done."""
    moments = random.Random(0)
    for _ in range(args.kills):
        process = start(args, output, ["--direct_num_workers=2"])
        time.sleep(moments.uniform(0.3, 1.0) * args.kill_seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = len(list(output.glob("*.array_record"))) if output.exists() else 0
    finish([start(args, output, ["--direct_num_workers=2"])])
    return done


def outcome(output: Path) -> dict:
    """What a run wrote: hash over all shards, counts, the keys that were left out."""
    content = hashlib.sha256()
    for path in sorted(output.glob("*.array_record")):
        content.update(path.name.encode() + path.read_bytes())
    manifest = json.loads((output / "manifest.json").read_text())
    left_out, parts = sorted(manifest["left_out"]), list(output.glob(".*"))
    return {"sha256": content.hexdigest()[:16], "left_out": left_out, "parts": parts}


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--bundle", default="small")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--processes", type=int, default=2, help="of a job of the jax engine; 0 for none")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill_seconds", type=float, default=60.0, help="kills come this late, or up to 70 %% earlier")
    parser.add_argument("--files_per_shard", type=int, default=16)
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    plant(args.input, args.workdir / "input")

    runs = {}
    for count in map(int, args.workers.split(",")):
        runs[f"Beam, {count} worker(s)"] = args.workdir / f"beam{count}"
        shutil.rmtree(args.workdir / f"beam{count}", ignore_errors=True)
        finish([start(args, args.workdir / f"beam{count}", [f"--direct_num_workers={count}"])])
    if args.processes:
        output = args.workdir / "jax"
        runs[f"JAX, {args.processes} processes of 2 devices"] = output
        shutil.rmtree(output, ignore_errors=True)
        finish(job_of_processes(args, output))
    if args.kills:
        output = args.workdir / "killed"
        shutil.rmtree(output, ignore_errors=True)
        done = killed_job(args, output)
        runs[f"Beam, 2 workers, {args.kills} kill -9 ({done} shards done before the last start)"] = output

    print("| run | records | left out | seconds | times real time | SHA-256 of all shards |\n|---|---|---|---|---|---|")
    outcomes = []
    for name, output in runs.items():
        found, figures = outcome(output), json.loads(Path(f"{output}.json").read_text())
        outcomes.append(found)
        print(
            f"| {name} | {figures['records']} | {figures['left_out']} | {figures['wall_seconds']:.0f} | "
            f"{figures['times_real_time']:.1f} | {found['sha256']} |"
        )
    same = len({found["sha256"] for found in outcomes}) == 1
    listed = all(found["left_out"] == list(PLANTED) and not found["parts"] for found in outcomes)
    print(f"identical: {same}; only the three planted files left out, no parts left behind: {listed}")
    sys.exit(0 if same and listed else 1)


if __name__ == "__main__":
    main()
