"""How the environment says that this process is one of several.

Where the job is described, in this order:
  AUDIOLM_COORDINATOR (host:port of process 0), AUDIOLM_NUM_PROCESSES, AUDIOLM_PROCESS_ID: all three, on any machines.
  SLURM: what `srun` sets, where it starts more than one task; AUDIOLM_COORDINATOR_PORT chooses another port.
  TPU: what GKE sets, or the metadata server of a Cloud TPU VM, where a slice has more than one host.
None of them: a single process, for which everything here does nothing.
"""

import dataclasses
import glob
import re
import urllib.error
import urllib.request
from collections.abc import Mapping

from audiolm_jax.errors import UserError

_OURS = ("AUDIOLM_COORDINATOR", "AUDIOLM_NUM_PROCESSES", "AUDIOLM_PROCESS_ID")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"


@dataclasses.dataclass(frozen=True)
class Launch:
    """How this process joins its job; what is None, `jax.distributed` finds out (on a TPU pod).

    Attributes:
      coordinator: "host:port" of process 0.
      num_processes, process_id: of the job, and of this process in it.
      local_device_ids: the GPUs of this machine that this process uses; None for all.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """How the environment says this process joins a job; None for a single process.

    Raises:
      UserError: the variables are incomplete, or no numbers, or contradict each other.
    """
    given = [name for name in _OURS if environment.get(name)]
    if given:
        missing = [name for name in _OURS if name not in given]
        if missing:
            raise UserError(f"{' and '.join(given)} is set but {' and '.join(missing)} is not; set all three or none")
        launch = Launch(
            environment["AUDIOLM_COORDINATOR"],
            whole_number(environment, "AUDIOLM_NUM_PROCESSES"),
            whole_number(environment, "AUDIOLM_PROCESS_ID"),
        )
        if not re.fullmatch(r".+:\d+", launch.coordinator):
            raise UserError(f"AUDIOLM_COORDINATOR is '{launch.coordinator}', but must be host:port of process 0")
        if not 0 <= launch.process_id < launch.num_processes:
            raise UserError(f"AUDIOLM_PROCESS_ID is {launch.process_id}, but must be 0 to AUDIOLM_NUM_PROCESSES - 1 = "
                            f"{launch.num_processes - 1}")
        return None if launch.num_processes == 1 else launch
    if all(environment.get(name) for name in _SLURM) and whole_number(environment, "SLURM_NTASKS") > 1:
        return _slurm_launch(environment)
    if _num_tpu_hosts(environment) > 1:
        return Launch()
    return None


def whole_number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    """The number that a variable holds; `default` where it is unset or empty.

    Raises:
      UserError: it holds something else.
    """
    if not environment.get(name):
        return default
    try:
        return int(environment[name])
    except ValueError as error:
        raise UserError(f"{name} is '{environment[name]}', but must be a whole number") from error


def _slurm_launch(environment: Mapping[str, str]) -> Launch:
    """A job step of SLURM: process 0 runs on the first node, at a port drawn from the job's number."""
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", environment["SLURM_STEP_NODELIST"])
    host = "".join(part for part in first.groups() if part)
    port = environment.get("AUDIOLM_COORDINATOR_PORT") or str(61_440 + whole_number(environment, "SLURM_JOB_ID") % 4096)
    # "8(x2)": eight tasks on each of two nodes. A single task has the node, several share its GPUs one by one, unless
    # SLURM has bound each to its own already.
    alone = re.match(r"1\b", environment.get("SLURM_STEP_TASKS_PER_NODE") or "")
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    bound = bool(visible) and "," not in visible
    return Launch(
        f"{host}:{port}",
        whole_number(environment, "SLURM_NTASKS"),
        whole_number(environment, "SLURM_PROCID"),
        (whole_number(environment, "SLURM_LOCALID"),) if not alone and not bound else None,
    )


def _num_tpu_hosts(environment: Mapping[str, str]) -> int:
    """Hosts of the TPU slices this machine belongs to; 1 where there is no TPU, or JAX is told not to use it."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms.split(","):
        return 1
    slices = whole_number(environment, "MEGASCALE_NUM_SLICES", 1)
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if workers:
        return slices * len(workers.split(","))
    # Asking the metadata server takes seconds where there is none, so only machines with chips do it.
    if not (glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")) or environment.get("TPU_SKIP_MDS_QUERY"):
        return 1
    return slices * len((_metadata("worker-network-endpoints") or "one").split(","))


def _metadata(name: str) -> str | None:
    """An attribute of a Cloud TPU VM; None where there is no metadata server."""
    request = urllib.request.Request(_METADATA + name, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
