#!/usr/bin/env bash
# Trains on TPU slices of Google Kubernetes Engine: fills in launch/gke_jobset.yaml and applies it.
#
#   ./launch/gke_jobset.sh [apply]   starts the JobSet; Kubernetes restarts it after every preemption until it is done
#   ./launch/gke_jobset.sh follow    shows the log of the first Pod
#   ./launch/gke_jobset.sh status    tells the state of the JobSet and its Pods
#   ./launch/gke_jobset.sh delete    SIGTERM to every Pod, which saves a checkpoint; `apply` goes on from there
#   --dry_run                        prints the YAML and the commands and does nothing
#
# Needs kubectl with access to a cluster that has TPU node pools, JobSet and the Cloud Storage FUSE driver, and an image
# of launch/Dockerfile. The service account must be allowed to write to the bucket.
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting NAME audiolm "the JobSet"
setting NAMESPACE default "its namespace"
setting IMAGE "" "the image, pushed from launch/Dockerfile: REGION-docker.pkg.dev/PROJECT/REPOSITORY/audiolm"
setting BUCKET "" "bucket with the data and the work directories, without gs://"
setting SERVICE_ACCOUNT default "Kubernetes service account that may write to the bucket"
setting ACCELERATOR tpu-v4-podslice "tpu-v4-podslice, tpu-v5-lite-podslice, tpu-v5p-slice or tpu-v6e-slice"
setting TOPOLOGY 2x2x4 "chips of a slice: 2x2x4 for v4 and v5p, 4x4 for v5e and v6e are 16 chips"
setting CHIPS_PER_VM 4 "chips of one TPU VM, which one Pod takes whole"
setting NUM_SLICES 1 "slices of that size, joined by the data-centre network; MESH_DATA spans them"
setting SPOT yes "yes: Spot nodes; no: reserved or on-demand ones"
setting MAX_RESTARTS 100 "restarts after which the JobSet counts as failed"
setting GRACE_SECONDS 300 "time for a checkpoint after SIGTERM"
setting MOUNT /mnt/audiolm "where the bucket is mounted"
setting EXPERIMENT semantic_librilight_paper "what to train: a name in gin/exp"
setting DATA "$MOUNT/tokens" "folder of token records or of audio"
setting WORKDIR "$MOUNT/$EXPERIMENT" "work directory of the run"
setting TRAIN_FLAGS "" "further flags of audiolm train, for example --set SEED=1"
setting COMMAND "train $(quoted "$EXPERIMENT" --data "$DATA" --workdir "$WORKDIR")${TRAIN_FLAGS:+ $TRAIN_FLAGS}" \
  "what every Pod runs, after 'audiolm'; or 'tokenize --engine jax ...'"
setting DONE "$WORKDIR/done" "the file that tells that all is done; of tokenize it is OUTPUT/manifest.json"
parse_flags "${BASH_SOURCE[0]}" "$@"

chips=$((${TOPOLOGY//x/*}))
((chips % CHIPS_PER_VM == 0)) ||
  stop "TOPOLOGY=$TOPOLOGY has $chips chips, which CHIPS_PER_VM=$CHIPS_PER_VM does not divide"
VMS_PER_SLICE=$((chips / CHIPS_PER_VM))

# The YAML with ${NAME} replaced; what the container's shell replaces has no braces.
rendered() {
  local text name value
  text="$(<"$ROOT/launch/gke_jobset.yaml")"
  for name in NAME NAMESPACE IMAGE BUCKET SERVICE_ACCOUNT ACCELERATOR TOPOLOGY CHIPS_PER_VM VMS_PER_SLICE NUM_SLICES \
    MAX_RESTARTS GRACE_SECONDS MOUNT COMMAND DONE; do
    # Within the double quotes of YAML.
    value="${!name//\\/\\\\}"
    text="${text//"\${$name}"/"${value//\"/\\\"}"}"
  done
  if [[ "$SPOT" == yes ]]; then printf '%s\n' "$text"; else grep -v '# only with SPOT=yes' <<<"$text"; fi
}

apply() {
  if [[ "$DRY_RUN" == yes ]]; then
    rendered
    run kubectl apply -f -
    return
  fi
  need IMAGE
  need BUCKET
  rendered | kubectl apply -f -
}

pods=(-n "$NAMESPACE" -l "jobset.sigs.k8s.io/jobset-name=$NAME")
case "${ARGUMENTS[*]-}" in
  "" | apply) apply ;;
  follow) run kubectl logs -n "$NAMESPACE" -f "job/$NAME-slice-0" -c train ;;
  status)
    run kubectl get jobset "$NAME" -n "$NAMESPACE"
    run kubectl get pods "${pods[@]}" -o wide
    ;;
  delete) run kubectl delete jobset "$NAME" -n "$NAMESPACE" ;;
  *) stop "there is no command ${ARGUMENTS[*]}; see $0 --help" ;;
esac
