"""What was really said after a prompt: recordings without their first seconds, as files that a recogniser hears."""

from collections.abc import Sequence
from pathlib import Path

from audiolm_jax.audio import Waveform, write_audio
from audiolm_jax.errors import UserError
from audiolm_jax.evaluation.recordings import Recording


def cut_prompts(
    recordings: Sequence[Recording], folder: str | Path, prompt_seconds: float, seconds: float
) -> list[Recording]:
    """Writes FOLDER/KEY.wav of each recording from the end of its prompt on, as long as a continuation.

    Args:
        recordings: sources, or what the codec made of them; keys unique.
        folder: of the files; those that are there are written anew.
        prompt_seconds: that are cut off.
        seconds: that are kept, of a recording that goes on as long.

    Returns:
        The files, with key, source, speaker and split of their recordings.

    Raises:
        UserError: a recording cannot be read, or ends with its prompt.
    """
    made = []
    for recording in recordings:
        waveform = recording.read()
        start, length = (round(part * waveform.sample_rate_hz) for part in (prompt_seconds, seconds))
        new = waveform.samples[start : start + length]
        if not len(new):
            raise UserError(
                f"{recording.path} lasts {waveform.seconds:.1f} s and ends within its prompt of {prompt_seconds:g} s; "
                "change --prompt_seconds or --min_seconds"
            )
        path = Path(folder, f"{recording.key}.wav")
        write_audio(path, Waveform(new, waveform.sample_rate_hz))
        made.append(recording.sample(path, recording.sample_index))
    return made
