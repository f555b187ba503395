#!/usr/bin/env bash
# From a folder of MIDI to continuations of piano that can be heard: plays the files on a piano in several hands and rooms,
# trains codec, encoder, k-means, the semantic and the coarse stage on that, and the acoustic-only model beside them; makes
# a bundle of each, measures them on held-out pieces, and continues some of these. Stop it at any time; the same command
# goes on from there.
#
#   ./launch/train_piano.sh MIDI_DIR WORKDIR
#   RECORDINGS="real/ more/" MIXTURE='(0.6, 0.2, 0.2)' MINUTES=240 ./launch/train_piano.sh MIDI_DIR WORKDIR
#
# WORKDIR/bundle is the result, WORKDIR/acoustic_only the model without semantic tokens that it is compared with,
# WORKDIR/heard and WORKDIR/heard_acoustic_only what they make of held-out pieces, WORKDIR/continuation.html one of it.
#   audiolm generate --bundle WORKDIR/bundle --mode continuation --prompt IN.wav --prompt_seconds 4 --output OUT.wav
# shellcheck disable=SC2034,SC2153  # `setting` makes the variables in capitals
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/recipe.sh"

trainings {codec=codec,encoder=best_rq,kmeans=kmeans,semantic=semantic,coarse=coarse,acoustic=acoustic}_piano_small
setting VARIANTS 4 "times that every MIDI file is played, each time by another pianist in another room"
setting MINUTES "" "that are played at most; empty for all"
setting PIECE "" "names the piece of a MIDI file, as for render_midi.py; empty for its name without a performance's number"
setting SOUND_FONTS "" "pianos (.sf2 files with blanks between); empty for the small one that comes along"
setting RECORDINGS "" "folders of real recordings that are trained on too, with blanks between"
setting HELDOUT_PIECES 20 "pieces of each folder that nothing is trained on, at most a quarter of them"
setting MIXTURE "" "share of what is played and of each of RECORDINGS, as (0.8, 0.2); empty for by number of pieces"
setting LICENCE "not stated; depends on the MIDI files and the sound fonts" "of the weights"
setting NAME piano "of the system"
setting REPORT_CLIPS 40 "segments that the codec is judged by"
setting REPORT_RECORDINGS "" "segments whose tokens are scored; empty for all that are held out"
setting HEARD 6 "held-out segments that are continued"
setting TF_CPP_MIN_LOG_LEVEL 2 "from which level on XLA and TensorFlow tell what they do: 0 all, 3 errors alone"
setting VENV_PYTHON "" "an interpreter that has the package, in place of .venv"
setting PYTHON "" "what .venv is made with; empty for the first Python of 3.11 or newer that is found"
answer_help "${BASH_SOURCE[0]}" "$@"

[[ $# -eq 2 ]] || stop "usage: $0 MIDI_DIR WORKDIR; $0 --help lists the variables"
MIDI="$1" WORK="$2"
[[ -d "$MIDI" ]] || stop "$MIDI is no folder; give a folder of MIDI files"
DATA=("$WORK/sound") NAMES=(sound)
for folder in $RECORDINGS; do
  [[ -d "$folder" ]] || stop "$folder is no folder; RECORDINGS names folders of recordings"
  name="$(basename "$folder")"
  [[ " ${NAMES[*]} " != *" $name "* ]] || stop "two folders are named $name; give them different names"
  DATA+=("$folder") NAMES+=("$name")
done
mkdir -p "$WORK"
if [[ -z "$VENV_PYTHON" ]]; then
  make_environment train "${ROOT}[train,eval,midi]"
  VENV_PYTHON="$VENV/bin/python"
fi
export TF_CPP_MIN_LOG_LEVEL

say "playing the MIDI files"
# shellcheck disable=SC2086  # the variable is a list of words
flagged --sound_font $SOUND_FONTS
"$VENV_PYTHON" "$ROOT/launch/render_midi.py" "$MIDI" "$WORK/sound" --variants "$VARIANTS" \
  ${MINUTES:+--minutes "$MINUTES"} ${PIECE:+--piece "$PIECE"} ${FLAGGED[@]+"${FLAGGED[@]}"}

MUSIC=("CORPUS=music" "HELDOUT_SPEAKERS=$HELDOUT_PIECES")
train codec codec_piano_small sound "${MUSIC[@]}"
train encoder best_rq_piano_small sound "${MUSIC[@]}"
train kmeans kmeans_piano_small sound "${MUSIC[@]}" "W2V_BERT=$WORK/encoder"

# Tokens come from the rounded weights that will ship, so the tokenizers are exported before anything is tokenized.
if ! newer "$WORK/tokenizers/manifest.json" "$WORK/codec/done" "$WORK/kmeans/done"; then
  say "exporting the tokenizers"
  flagged --data "${NAMES[@]}"
  audiolm bundle "$WORK/tokenizers" --codec "$WORK/codec" --kmeans "$WORK/kmeans" --w2v_bert "$WORK/encoder" \
    --name "$NAME" --licence "$LICENCE" "${FLAGGED[@]}" --overwrite
fi

for place in "${!DATA[@]}"; do
  say "tokenizing ${DATA[place]}"
  audiolm tokenize --input "${DATA[place]}" --output "$WORK/tokens/${NAMES[place]}" --bundle "$WORK/tokenizers" \
    --corpus music --heldout_speakers "$HELDOUT_PIECES"
done

train semantic semantic_piano_small tokens
train coarse coarse_piano_small tokens "TOKENIZERS=$WORK/tokenizers"
train acoustic acoustic_piano_small tokens "TOKENIZERS=$WORK/tokenizers"

if ! newer "$WORK/bundle/manifest.json" "$WORK"/{tokenizers/manifest.json,semantic/done,coarse/done}; then
  say "exporting the bundle"
  audiolm bundle "$WORK/bundle" --tokenizers "$WORK/tokenizers" --semantic "$WORK/semantic" --coarse "$WORK/coarse" \
    --overwrite
  rm -rf "$WORK/report/done" "$WORK/heard"
fi
if ! newer "$WORK/acoustic_only/manifest.json" "$WORK"/{tokenizers/manifest.json,acoustic/done}; then
  say "exporting the acoustic-only model"
  audiolm bundle "$WORK/acoustic_only" --tokenizers "$WORK/tokenizers" --acoustic "$WORK/acoustic" \
    --name "${NAME}_acoustic_only" --overwrite
  rm -rf "$WORK/heard_acoustic_only"
fi

flagged --data "${DATA[@]}"
HELDOUT=("${FLAGGED[@]}" --corpus music --heldout_speakers "$HELDOUT_PIECES")
if [[ ! -f "$WORK/report/done" ]]; then
  say "measuring the bundle on held-out pieces"
  flagged --train_tokens "${NAMES[@]/#/$WORK/tokens/}"
  audiolm eval all --only codec,perplexity --merge --bundle "$WORK/bundle" "${HELDOUT[@]}" --output "$WORK/report" \
    "${FLAGGED[@]}" --max_clips "$REPORT_CLIPS" ${REPORT_RECORDINGS:+--max_recordings "$REPORT_RECORDINGS"}
  touch "$WORK/report/done"
fi

# The paper's prompt of 4 s, and 8 s beside what was really played. Any recording of 48 s and more has such segments.
for bundle in bundle acoustic_only; do
  heard="$WORK/heard$([[ "$bundle" == bundle ]] || printf '_%s' "$bundle")"
  say "continuing held-out pieces with $WORK/$bundle"
  audiolm eval samples --bundle "$WORK/$bundle" "${HELDOUT[@]}" --segment_seconds 16 --min_seconds 12 --max_seconds 16 \
    --max_recordings "$HEARD" --num_samples 1 --prompt_seconds 4 --seconds 8 \
    --kinds original,reconstruction,continuation --output "$heard"
done
prompt="$(find "$WORK/heard/original" -name '*.wav' | sort | head -n 1)"
audiolm generate --bundle "$WORK/bundle" --mode continuation --prompt "$prompt" --prompt_seconds 4 --seconds 12 \
  --output "$WORK/continuation.wav" --page "$WORK/continuation.html"
say "done: $WORK/bundle is the system, $WORK/report/report.html its figures, $WORK/heard/prompted what it plays"
say "hear it: open $WORK/continuation.html in a browser"
