#!/usr/bin/env bash
# Tokenizes a corpus on Google Cloud Dataflow: `audiolm tokenize` with the options of Beam's DataflowRunner.
#
#   ./launch/dataflow.sh             runs the job and waits for it; started again, it keeps the shards that are done
#   ./launch/dataflow.sh --dry_run   prints the commands and does nothing
#
# INPUT, OUTPUT and BUNDLE are read and written by the workers: folders of a bucket. The package goes there in IMAGE,
# built from launch/Dockerfile (target dataflow); this machine needs Python 3.12, as the image has.
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

setting NAME audiolm-tokenize "the job; small letters, digits and hyphens"
setting PROJECT "" "Google Cloud project"
setting REGION us-central1 "of the workers; the region of the bucket"
setting BUCKET "" "bucket for the files of the job itself, without gs://"
setting INPUT "gs://$BUCKET/speech" "folder of audio, one folder for each speaker"
setting OUTPUT "gs://$BUCKET/tokens" "folder of the token records"
setting BUNDLE "gs://$BUCKET/tokenizers" "bundle with codec and semantic tokenizer"
setting IMAGE "" "the image, pushed from launch/Dockerfile: REGION-docker.pkg.dev/PROJECT/REPOSITORY/audiolm-dataflow"
setting MACHINE n2-standard-8 "type of the workers"
setting MAX_WORKERS 200 "most workers at once"
setting THREADS 2 "recordings batches that one worker computes at once; XLA uses all cores for each"
setting DISK_GB 50 "disk of a worker"
setting FILES_PER_SHARD 0 "recordings of a shard, which is what one worker takes at a time; 0: 64, more where that gives over 4096 shards"
setting BATCH_SIZE 0 "recordings that are computed at once; 0: 1 on a CPU, 16 on an accelerator"
setting TOKENIZE_FLAGS "" "further flags of audiolm tokenize, for example --corpus unlab-60k"
setting BEAM_FLAGS "" "further options of Dataflow, for example --flexrs_goal=COST_OPTIMIZED --no_use_public_ips"
setting VENV_PYTHON "" "an interpreter that has the package and apache-beam[gcp], in place of .venv"
setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
parse_flags "${BASH_SOURCE[0]}" "$@"
((${#ARGUMENTS[@]} == 0)) || stop "there is no command ${ARGUMENTS[*]}; see $0 --help"

if [[ "$DRY_RUN" == no ]]; then
  need PROJECT
  need BUCKET
  need IMAGE
  [[ -n "$VENV_PYTHON" ]] || make_environment dataflow "${ROOT}[train,dataflow]"
fi

# One process for each machine, so that the weights are loaded once and not once for each core.
# shellcheck disable=SC2086  # lists of words
run "${VENV_PYTHON:-$VENV/bin/python}" -m audiolm_jax.cli tokenize --input "$INPUT" --output "$OUTPUT" \
  --bundle "$BUNDLE" --files_per_shard "$FILES_PER_SHARD" --batch_size "$BATCH_SIZE" $TOKENIZE_FLAGS \
  --runner=DataflowRunner --project="$PROJECT" --region="$REGION" --job_name="$NAME" \
  --temp_location="gs://$BUCKET/dataflow/temp" --staging_location="gs://$BUCKET/dataflow/staging" \
  --sdk_container_image="$IMAGE" --sdk_location=container --machine_type="$MACHINE" \
  --max_num_workers="$MAX_WORKERS" --disk_size_gb="$DISK_GB" --number_of_worker_harness_threads="$THREADS" \
  --experiments=use_runner_v2 --experiments=no_use_multiple_sdk_containers $BEAM_FLAGS
