#!/usr/bin/env bash
# Trains (or tokenizes) on Cloud TPU through queued resources, and goes on after every preemption until all is done.
#
#   ./launch/tpu_pod.sh [train]    does all of the following: creates, installs, runs, follows; recreates what was
#                                  preempted; ends when DONE exists, and deletes the TPUs
#   ./launch/tpu_pod.sh create     asks for the TPUs and waits for them
#   ./launch/tpu_pod.sh install    puts the package on every worker and mounts SHARED there
#   ./launch/tpu_pod.sh run        starts `audiolm train` on every worker
#   ./launch/tpu_pod.sh follow     shows the log of worker 0
#   ./launch/tpu_pod.sh status     tells the state of the TPUs and of the training
#   ./launch/tpu_pod.sh stop       SIGTERM to every worker: saves a checkpoint; `run` goes on from there
#   ./launch/tpu_pod.sh delete     gives the TPUs back
#   --dry_run                      prints the commands and does nothing
#
# Needs gcloud, logged in, with the TPU API enabled. `train` can be stopped and started again at any time, from any
# machine: it looks at what there is and goes on. Several slices: run `ssh-add ~/.ssh/google_compute_engine` first.
#
# All workers must see the same WORKDIR and DATA. SHARED=gs://BUCKET is mounted with Cloud Storage FUSE (make the bucket
# with --enable-hierarchical-namespace, in which a checkpoint is renamed at once), SHARED=HOST:/SHARE by NFS (Filestore).
#
# Tokens on the chips instead of a training:
#   COMMAND='tokenize --engine jax --input /mnt/audiolm/librilight --corpus unlab-60k --output /mnt/audiolm/tokens
#   --bundle /mnt/audiolm/tokenizers' DONE=/mnt/audiolm/tokens/manifest.json ./launch/tpu_pod.sh
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting NAME audiolm "the queued resource, its nodes and the systemd unit on the workers"
setting PROJECT "" "Google Cloud project; empty for gcloud's own"
setting ZONE us-central2-b "zone of the TPUs; v4 is in us-central2-b only"
setting ACCELERATOR v4-32 "TPU slice: v4-32 and v5p-32 are 16 chips (the number counts cores), v5litepod-16, v6e-16"
setting NUM_SLICES 1 "slices of that size, joined by the data-centre network; MESH_DATA spans them"
setting RUNTIME "" "software of the TPU VMs; empty for the one of the accelerator"
setting CAPACITY spot "spot (cheap, can be preempted), reserved or on_demand"
setting CREATE_FLAGS "" "further flags of gcloud compute tpus queued-resources create, for example --network=..."
setting SSH_FLAGS "" "further flags of gcloud ... ssh and scp, for example --internal-ip or --tunnel-through-iap"
setting SHARED "" "gs://BUCKET or HOST:/SHARE, mounted at MOUNT; empty if WORKDIR and DATA are shared already"
setting MOUNT /mnt/audiolm "where SHARED is mounted on every worker"
setting EXPERIMENT semantic_librilight_paper "what to train: a name in gin/exp"
setting DATA "$MOUNT/tokens" "folder of token records or of audio"
setting WORKDIR "$MOUNT/$EXPERIMENT" "work directory of the run"
setting TRAIN_FLAGS "" "further flags of audiolm train, for example --set SEED=1"
setting COMMAND "train $(quoted "$EXPERIMENT" --data "$DATA" --workdir "$WORKDIR")${TRAIN_FLAGS:+ $TRAIN_FLAGS}" \
  "what every worker runs, after 'audiolm'"
setting DONE "$WORKDIR/done" "the file that tells that all is done; of tokenize it is OUTPUT/manifest.json"
setting PACKAGE "" "what pip installs, without extras: a wheel's path or a URL; empty for this repository"
setting STOP_SECONDS 300 "how long a worker may take to save its checkpoint after SIGTERM"
setting POLL_SECONDS 60 "between looks at a queue"
setting MAX_FAILURES 5 "crashes in a row, each within 30 minutes of the start, after which train gives up"
setting PYTHON "" "what the wheel is built with; empty for the first Python of 3.11 or newer that is found"
parse_flags "${BASH_SOURCE[0]}" "$@"

runtime() {
  case "$ACCELERATOR" in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

# tpus VERB ARGUMENT...: gcloud on queued resources, in our zone and project.
tpus() { run gcloud compute tpus queued-resources "$@" --zone="$ZONE" ${PROJECT:+"--project=$PROJECT"}; }

# on_worker WHICH COMMAND: a shell line on worker 0, or on all workers of all slices.
on_worker() {
  local which="$1" command="$2"
  # shellcheck disable=SC2086  # SSH_FLAGS is a list of words
  tpus ssh "$NAME" --node="$which" --worker="$which" $SSH_FLAGS --command="$command"
}

# The state of the queued resource: NONE, WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED, FAILED ...
state() {
  local answer
  if answer="$(tpus describe "$NAME" --format="value(state.state)" 2>&1)"; then
    printf '%s\n' "$answer"
  elif [[ "$answer" == *NOT_FOUND* || "$answer" == *"not found"* ]]; then
    echo NONE
  else
    # A lost network or an expired login is no reason to create anything.
    say "$answer"
    echo UNKNOWN
  fi
}

create() {
  local -a nodes=(--node-id="$NAME") capacity=()
  ((NUM_SLICES == 1)) || nodes=(--node-count="$NUM_SLICES" --node-prefix="$NAME")
  case "$CAPACITY" in
    spot) capacity=(--spot) ;;
    reserved) capacity=(--reserved) ;;
    on_demand) ;;
    *) stop "CAPACITY=$CAPACITY; use spot, reserved or on_demand" ;;
  esac
  say "asking for $NUM_SLICES x $ACCELERATOR ($CAPACITY) in $ZONE"
  # shellcheck disable=SC2086  # CREATE_FLAGS is a list of words
  tpus create "$NAME" "${nodes[@]}" --accelerator-type="$ACCELERATOR" --runtime-version="${RUNTIME:-$(runtime)}" \
    --scopes=https://www.googleapis.com/auth/cloud-platform ${capacity[@]+"${capacity[@]}"} $CREATE_FLAGS
}

delete() { tpus delete "$NAME" --force --quiet; }

# Creates, or recreates what was preempted, and waits until the TPUs are there. FRESH tells that they are new.
FRESH=no
make_active() {
  local now
  if [[ "$DRY_RUN" == yes ]]; then
    state
    create
    state
    return
  fi
  while true; do
    now="$(state)"
    case "$now" in
      ACTIVE) return ;;
      NONE)
        FRESH=yes
        create || say "gcloud refused the request; the lines above say why; asking again"
        ;;
      SUSPENDED | FAILED)
        say "the TPUs are $now; deleting what is left of them"
        delete || true
        continue
        ;;
      *) say "the TPUs are $now" ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

# The lines by which a worker mounts SHARED, if it has not.
mount_lines() {
  local apt="sudo apt-get -q -y -o DPkg::Lock::Timeout=600"
  [[ -n "$SHARED" ]] || return 0
  echo "mountpoint -q $MOUNT || { sudo mkdir -p $MOUNT && sudo chown \$(id -u) $MOUNT; }"
  case "$SHARED" in
    gs://*)
      cat <<LINES
command -v gcsfuse >/dev/null || {
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/gcsfuse.asc >/dev/null
  echo "deb [signed-by=/usr/share/keyrings/gcsfuse.asc] https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  $apt update && $apt install gcsfuse
}
mountpoint -q $MOUNT || gcsfuse --implicit-dirs --rename-dir-limit=100000 ${SHARED#gs://} $MOUNT
LINES
      ;;
    *:/*)
      cat <<LINES
command -v mount.nfs >/dev/null || { $apt update && $apt install nfs-common; }
mountpoint -q $MOUNT || sudo mount -t nfs -o hard,noatime $SHARED $MOUNT
LINES
      ;;
    *) stop "SHARED=$SHARED; use gs://BUCKET or HOST:/SHARE" ;;
  esac
}

# The wheel goes to every worker by scp; the VMs' own Python is too old for the package, so uv brings one.
install() {
  local target="$PACKAGE" wheels="$ROOT/out/wheel"
  if [[ -z "$PACKAGE" ]]; then
    # What an earlier build left would go into the wheel.
    run rm -rf "$wheels" "$ROOT/build"
    run "$(find_python)" -m pip wheel -q --no-deps --wheel-dir "$wheels" "$ROOT" || stop "the wheel was not built"
    target="$(cd "$wheels" 2>/dev/null && printf '%s' *.whl || printf 'audiolm_jax-VERSION-py3-none-any.whl')"
    # shellcheck disable=SC2086  # SSH_FLAGS is a list of words
    tpus scp "$wheels/$target" "$NAME:" --node=all --worker=all $SSH_FLAGS
  fi
  say "installing $target on every worker"
  on_worker all "set -e
$(mount_lines)
python3 -m pip install -q --user uv
[ -x audiolm_env/bin/python ] || ~/.local/bin/uv venv -q --python 3.12 audiolm_env
~/.local/bin/uv pip install -q --reinstall-package audiolm_jax --python audiolm_env/bin/python \
  'audiolm_jax[train,tpu] @ $(requirement_url "$target")'"
}

# pip takes extras only with a name, and a name only with a URL.
requirement_url() {
  case "$1" in
    *://*) printf '%s' "$1" ;;
    /*) printf 'file://%s' "$1" ;;
    *) printf "file://'\"\$HOME\"'/%s" "$1" ;;
  esac
}

# A unit of systemd outlives the connection, and gets SIGTERM when the machine is about to be taken away.
start() {
  say "starting audiolm $COMMAND"
  # TPU drivers pin host memory, which a unit may not do by default.
  on_worker all "sudo systemctl stop $NAME 2>/dev/null; sudo systemctl reset-failed $NAME 2>/dev/null
: >>\$HOME/$NAME.log
sudo systemd-run --quiet --unit=$NAME --uid=\$(id -u) --working-directory=\$HOME --setenv=HOME=\$HOME \
--setenv=TF_CPP_MIN_LOG_LEVEL=2 --property=TimeoutStopSec=$STOP_SECONDS --property=LimitMEMLOCK=infinity \
--property=LimitNOFILE=1048576 --property=StandardOutput=append:\$HOME/$NAME.log \
--property=StandardError=append:\$HOME/$NAME.log \
\$HOME/audiolm_env/bin/audiolm $COMMAND"
}

# Ends when the training on worker 0 does, or when the connection is lost.
follow() {
  on_worker 0 "pid=\$(systemctl show -p MainPID --value $NAME)
[ \"\$pid\" -gt 0 ] || exit 0
tail -n 100 -F --pid=\$pid \$HOME/$NAME.log"
}

status() {
  printf '%s\n' "$(state)"
  on_worker 0 "systemctl is-active $NAME; tail -n 5 \$HOME/$NAME.log
test -f $(quoted "$DONE") && echo all is done"
}

# What worker 0 says of the training: running, done, or the exit code of its end.
outcome() {
  on_worker 0 "if systemctl is-active -q $NAME; then echo running
elif test -f $(quoted "$DONE"); then echo done
else systemctl show -p ExecMainStatus --value $NAME; fi"
}

train() {
  local failures=0 prepared=no what started
  while true; do
    make_active
    [[ "$FRESH" == no ]] || prepared=no
    FRESH=no
    if [[ "$prepared" == no ]]; then
      # Right after a start a worker may not let anybody in yet.
      install || { say "the installation failed; trying again"; sleep "$POLL_SECONDS"; continue; }
      prepared=yes
    fi
    if [[ "$DRY_RUN" == yes ]]; then
      outcome
      start
      follow
      outcome
      delete
      return
    fi
    what="$(outcome)" || { sleep "$POLL_SECONDS"; continue; }
    [[ "$what" != "done" ]] || break
    [[ "$what" == running ]] || start || { sleep "$POLL_SECONDS"; continue; }
    started=$SECONDS
    follow || true
    what="$(outcome)" || what=gone
    case "$what" in
      "done") break ;;
      running | gone | 0) say "the training is $what; looking again" ;;
      2) stop "the training refused to start (exit code 2); its last line above says what to change" ;;
      *)
        ((SECONDS - started < 1800)) && failures=$((failures + 1)) || failures=1
        say "the training ended with exit code $what, failure $failures of $MAX_FAILURES"
        ((failures < MAX_FAILURES)) || stop "giving up; the TPUs are still there: $0 follow, $0 delete"
        ;;
    esac
  done
  say "all is done: $DONE"
  delete
}

case "${ARGUMENTS[*]-}" in
  "" | train) train ;;
  create) make_active ;;
  install) install ;;
  run) start ;;
  follow) follow ;;
  status) status ;;
  stop) on_worker all "sudo systemctl stop $NAME" ;;
  delete) delete ;;
  *) stop "there is no command ${ARGUMENTS[*]}; see $0 --help" ;;
esac
