#!/usr/bin/env bash
# Trains a whole small system on folders of speech: codec, semantic encoder, k-means, tokens, semantic, coarse and fine
# stage; chooses temperatures on held-out prompts and ends with a bundle, a report on held-out speakers, and curves and
# figures of every training after 10 minutes, 1 hour and 5 hours. Stop it at any time; the same command goes on.
#
#   ./launch/train_small.sh DATA_DIR WORKDIR
#   PHRASE_MINUTES=120 MIXTURE='(0.3, 0.4, 0.3)' ASR=whisper-base PHRASES=phrases/ \
#     ./launch/train_small.sh speech/ phrases/ WORKDIR
#
# A DATA_DIR holds audio files (.wav .flac .ogg .opus .mp3), one folder for each speaker. WORKDIR/bundle is the result:
#   audiolm generate --bundle WORKDIR/bundle --mode continuation --prompt IN.wav --output OUT.wav
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/recipe.sh"

trainings codec=codec_small encoder_1="the first encoder" encoder_2="the second encoder" \
  {kmeans=kmeans,semantic=semantic,coarse=coarse,fine=fine}_small
setting ENCODER "cluster cluster_again" "how the semantic encoder learns: w2v_bert, best_rq or cluster; and what learns from it"
setting PHRASE_MINUTES 0 "minutes of a small closed language that espeak-ng speaks, for all but the codec; 0 for none"
setting HELDOUT_SPEAKERS 20 "speakers of each DATA_DIR that nothing is trained on"
setting MIXTURE "" "shares of the DATA_DIRs, then of espeak-ng's, as (0.5, 0.3, 0.2); empty for by number of speakers"
setting ASR "" "recogniser that hears the codec and chooses temperatures, as for audiolm eval wer; empty for none"
setting PHRASES "" "the DATA_DIR whose language is closed, with transcripts.tsv: are continuations made of its words?"
setting ITEM "" "item file of phones in the DATA_DIRs, which the semantic tokens are asked for (ABX)"
setting PROMPT "" "a WAV file that goes with the bundle"
setting LICENCE "not stated; depends on the training data" "of the weights"
setting NAME mine "of the system"
setting MAX_MEGABYTES "" "that the bundle may weigh; empty for any"
setting REPORT_CLIPS 40 "recordings that the codec is judged by"
setting REPORT_RECORDINGS "" "recordings whose tokens are scored; empty for all that are held out"
setting TF_CPP_MIN_LOG_LEVEL 2 "from which level on XLA and TensorFlow tell what they do: 0 all, 3 errors alone"
setting VENV_PYTHON "" "an interpreter that has the package, in place of .venv"
setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
answer_help "${BASH_SOURCE[0]}" "$@"

[[ $# -ge 2 ]] || stop "usage: $0 DATA_DIR ... WORKDIR; $0 --help lists the variables"
DATA=("${@:1:$#-1}") WORK="${!#}"
# The tokens of each folder lie in a folder of its name.
NAMES=()
for folder in "${DATA[@]}"; do
  [[ -d "$folder" ]] || stop "$folder is no folder; give a folder of speech"
  name="$(basename "$folder")"
  [[ " ${NAMES[*]-} " != *" $name "* ]] || stop "two folders are named $name; give them different names"
  NAMES+=("$name")
done
read -r -a ENCODERS <<<"$ENCODER"
[[ "${ENCODERS[*]}" =~ ^(w2v_bert|best_rq|cluster)(\ cluster_again)*$ ]] ||
  stop "ENCODER is '$ENCODER'; give w2v_bert, best_rq or cluster, and cluster_again for every further iteration"
[[ "$PHRASE_MINUTES" =~ ^[0-9]+$ ]] || stop "PHRASE_MINUTES is '$PHRASE_MINUTES'; give a whole number of minutes"
mkdir -p "$WORK"
if [[ -z "$VENV_PYTHON" ]]; then
  make_environment train "${ROOT}[train,eval,espeak]"
  VENV_PYTHON="$VENV/bin/python"
fi
export TF_CPP_MIN_LOG_LEVEL

# What espeak-ng says is no recording: stages learn words from it, and a codec is not asked to spend bits on it.
ALL_SHARES="$MIXTURE"
# The last share is that of espeak-ng's speech.
if ((PHRASE_MINUTES)) && [[ "$MIXTURE" == \(*,* ]]; then MIXTURE="${MIXTURE%,*},)"; fi
train codec codec_small sound "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS" ${ASR:+"EXAM_ASR=$ASR"}
RECORDINGS=("${DATA[@]}") MIXTURE="$ALL_SHARES"
if ((PHRASE_MINUTES)); then
  say "espeak-ng's phrases"
  "$VENV_PYTHON" "$ROOT/launch/make_espeak_speech.py" "$WORK/espeak" --text phrases --minutes "$PHRASE_MINUTES"
  DATA+=("$WORK/espeak") NAMES+=(espeak)
fi
# The n-th encoder learns in WORK/encoder_n; another iteration learns from the one before it.
macros=()
for ((iteration = 1; iteration <= ${#ENCODERS[@]}; iteration++)); do
  train "encoder_$iteration" "${ENCODERS[iteration - 1]}_small" sound "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS" \
    ${macros[@]+"${macros[@]}"}
  encoder="$WORK/encoder_$iteration"
  macros=("TEACHER=$encoder")
done
train kmeans kmeans_small sound "HELDOUT_SPEAKERS=$HELDOUT_SPEAKERS" "W2V_BERT=$encoder"

# Tokens come from the rounded weights that will ship, so the tokenizers are exported before anything is tokenized.
if ! newer "$WORK/tokenizers/manifest.json" "$WORK/codec/done" "$WORK/kmeans/done"; then
  say "exporting the tokenizers"
  flagged --data "${NAMES[@]}"
  audiolm bundle "$WORK/tokenizers" --codec "$WORK/codec" --kmeans "$WORK/kmeans" --w2v_bert "$encoder" \
    --name "$NAME" --licence "$LICENCE" "${FLAGGED[@]}" --overwrite
fi

for folder in "${DATA[@]}"; do
  say "tokenizing $folder"
  audiolm tokenize --input "$folder" --output "$WORK/tokens/$(basename "$folder")" --bundle "$WORK/tokenizers" \
    --heldout_speakers "$HELDOUT_SPEAKERS"
done

train semantic semantic_small tokens
train coarse coarse_small tokens "TOKENIZERS=$WORK/tokenizers"
train fine fine_small tokens "TOKENIZERS=$WORK/tokenizers"

if ! newer "$WORK/bundle/manifest.json" "$WORK"/{tokenizers/manifest.json,semantic/done,coarse/done,fine/done}; then
  say "exporting the bundle"
  audiolm bundle "$WORK/bundle" --tokenizers "$WORK/tokenizers" \
    --semantic "$WORK/semantic" --coarse "$WORK/coarse" --fine "$WORK/fine" ${PROMPT:+--prompt "$PROMPT"} --overwrite
  rm -rf "$WORK/temperatures" "$WORK/report/done"
fi
if [[ -n "$MAX_MEGABYTES" ]]; then
  megabytes="$((($(du -sk "$WORK/bundle" | cut -f1) * 1024 + 999999) / 1000000))"
  ((megabytes <= MAX_MEGABYTES)) || stop "$WORK/bundle has $megabytes MB, MAX_MEGABYTES is $MAX_MEGABYTES"
fi

if [[ ! -f "$WORK/temperatures/done" ]]; then
  say "choosing temperatures on held-out prompts"
  flagged --data "${RECORDINGS[@]}"
  audiolm eval temperatures --merge --bundle "$WORK/bundle" "${FLAGGED[@]}" --output "$WORK/temperatures" \
    --heldout_speakers "$HELDOUT_SPEAKERS" ${ASR:+--asr "$ASR"}
  touch "$WORK/temperatures/done"
fi

if [[ ! -f "$WORK/report/done" ]]; then
  say "measuring the bundle on held-out speakers"
  flagged --data "${RECORDINGS[@]}"
  data=("${FLAGGED[@]}")
  flagged --train_tokens "${NAMES[@]/#/$WORK/tokens/}"
  audiolm eval all --only codec,perplexity --merge --bundle "$WORK/bundle" "${data[@]}" --output "$WORK/report" \
    "${FLAGGED[@]}" --heldout_speakers "$HELDOUT_SPEAKERS" --max_clips "$REPORT_CLIPS" \
    ${REPORT_RECORDINGS:+--max_recordings "$REPORT_RECORDINGS"}
  "$VENV_PYTHON" "$ROOT/benchmarks/recipe.py" "$WORK" --encoder "$encoder" --output "$WORK/report" >"$WORK/report/recipe.md"
  touch "$WORK/report/done"
fi
say "done: $WORK/bundle is the system, $WORK/report/report.html its figures, $WORK/report/recipe.md those on the way"
say "try it: audiolm generate --bundle $WORK/bundle --mode continuation --prompt IN.wav --output OUT.wav"
