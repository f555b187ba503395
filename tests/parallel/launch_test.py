"""What environments of clusters say about the job that this process belongs to."""

import pytest

from audiolm_jax.errors import UserError
from audiolm_jax.parallel import launch
from audiolm_jax.parallel.launch import Launch, find_launch

OURS = {"AUDIOLM_COORDINATOR": "node1:1234", "AUDIOLM_NUM_PROCESSES": "4", "AUDIOLM_PROCESS_ID": "2"}
SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "gpu[007-008,011]",
    "SLURM_NTASKS": "24",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "8(x3)",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}


@pytest.fixture(autouse=True)
def no_tpu(monkeypatch):
    monkeypatch.setattr(launch.glob, "glob", lambda pattern: [])


def test_a_laptop_is_a_single_process():
    assert find_launch({}) is None
    assert find_launch(OURS | {"AUDIOLM_NUM_PROCESSES": "1", "AUDIOLM_PROCESS_ID": "0"}) is None
    # What a batch script of SLURM sees, or an interactive shell: no step, or one task.
    assert find_launch({name: SLURM[name] for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID")}) is None
    assert find_launch(SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_our_own_variables_come_first():
    assert find_launch(SLURM | OURS) == Launch("node1:1234", 4, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"AUDIOLM_PROCESS_ID": ""}, "AUDIOLM_PROCESS_ID is not; set all three or none"),
        ({"AUDIOLM_PROCESS_ID": "4"}, "must be 0 to AUDIOLM_NUM_PROCESSES - 1 = 3"),
        ({"AUDIOLM_NUM_PROCESSES": "many"}, "AUDIOLM_NUM_PROCESSES is 'many', but must be a whole number"),
        ({"AUDIOLM_COORDINATOR": "node1"}, "must be host:port"),
        ({name: "" for name in OURS} | {"MEGASCALE_NUM_SLICES": "two"}, "MEGASCALE_NUM_SLICES is 'two'"),
    ],
)
def test_mistakes_name_the_variable(change, told):
    with pytest.raises(UserError, match=told):
        find_launch(OURS | change)


def test_slurm_gives_each_task_of_a_node_a_gpu():
    assert find_launch(SLURM) == Launch("gpu007:61441", 24, 9, (1,))
    # A node's only task takes all of its GPUs; a task that SLURM has bound to one sees that one as the first.
    alone = {"SLURM_STEP_TASKS_PER_NODE": "1(x24)", "SLURM_LOCALID": "0"}
    assert find_launch(SLURM | alone).local_device_ids is None
    assert find_launch(SLURM | {"CUDA_VISIBLE_DEVICES": "5"}).local_device_ids is None


@pytest.mark.parametrize("nodes", ["gpu7", "gpu7,other3", "gpu[7,9]", "gpu[7-9],other3"])
def test_the_coordinator_is_the_first_node_of_slurm(nodes):
    settings = SLURM | {"SLURM_STEP_NODELIST": nodes, "AUDIOLM_COORDINATOR_PORT": "99"}
    assert find_launch(settings).coordinator == "gpu7:99"


def test_tpu_slices_of_several_hosts_are_left_to_jax(monkeypatch):
    assert find_launch({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}) == Launch()
    assert find_launch({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}) == Launch()
    assert find_launch({"TPU_WORKER_HOSTNAMES": "a"}) is None
    assert find_launch({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}) is None

    # A Cloud TPU VM has chips, and a metadata server that lists the hosts of its slice.
    asked = []
    monkeypatch.setattr(launch.glob, "glob", lambda pattern: ["/dev/accel0"])
    monkeypatch.setattr(launch, "_metadata", lambda name: asked.append(name) or "u1:0:10.0.0.1,u2:1:10.0.0.2")
    assert find_launch({"TPU_SKIP_MDS_QUERY": "1"}) is None and not asked
    assert find_launch({}) == Launch() and asked == ["worker-network-endpoints"]
    monkeypatch.setattr(launch, "_metadata", lambda name: "u1:0:10.0.0.1")
    assert find_launch({}) is None
    monkeypatch.setattr(launch, "_metadata", lambda name: None)
    assert find_launch({}) is None
