"""Starts real processes on this machine as one job, each with some simulated devices."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    output: str
    errors: str


def free_port() -> int:
    """A port nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(devices: int, **variables) -> dict[str, str]:
    """That of a process with so many simulated devices, and these variables."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIOLM_", "SLURM_"))}
    found |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    # A process that finds a program half written by another says so, and tests read what processes say.
    found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return found | {name: str(value) for name, value in variables.items()}


def run_job(processes: int, devices: int, *command, timeout_seconds=500, counts=None, **variables) -> list[Ended]:
    """Runs `python -m COMMAND` in every process of a job, and waits for all of them.

    Args:
        processes, devices: of the job, and of each process.
        command: module and arguments.
        timeout_seconds: for all of it; what is longer has hung.
        counts: how many processes each is told of; None for the truth.
        variables: of the environment of every process.
    """
    address, running = f"127.0.0.1:{free_port()}", []
    for index in range(processes):
        told = processes if counts is None else counts[index]
        job = {"AUDIOLM_COORDINATOR": address, "AUDIOLM_NUM_PROCESSES": told, "AUDIOLM_PROCESS_ID": index}
        settings = environment(devices, **(job if processes > 1 or counts else {}), **variables)
        arguments = [sys.executable, "-m", *map(str, command)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(arguments, cwd=ROOT, env=settings, **pipes))
    try:
        outputs = [process.communicate(timeout=timeout_seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    return [Ended(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]
