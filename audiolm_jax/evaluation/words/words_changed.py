"""Words that are heard otherwise in what was made of recordings than in the recordings: needs no transcripts."""

import functools
from collections.abc import Sequence

import numpy as np

from audiolm_jax.audio import Waveform, resample
from audiolm_jax.evaluation.words.asr import Recogniser
from audiolm_jax.evaluation.words.text_normalisation import normalise


def words_changed(
    recogniser: Recogniser, pairs: Sequence[tuple[np.ndarray, np.ndarray]], sample_rate_hz: int
) -> float | None:
    """Word error rate of what is heard in made clips against what is heard in the originals.

    Args:
        recogniser: who listens.
        pairs: (original, made), float32[T] each.
        sample_rate_hz: of all of them.

    Returns:
        The rate, which may exceed 1; None where no word is heard in any original.
    """
    import jiwer

    if sample_rate_hz != recogniser.sample_rate_hz:
        pairs = [
            tuple(resample(Waveform(s, sample_rate_hz), recogniser.sample_rate_hz).samples for s in pair)
            for pair in pairs
        ]
    heard = [tuple(_heard(recogniser, np.asarray(s, np.float32).tobytes()) for s in pair) for pair in pairs]
    heard = [(reference, hypothesis) for reference, hypothesis in heard if reference]
    if not heard:
        return None
    references, hypotheses = zip(*heard, strict=True)
    return float(jiwer.wer(list(references), list(hypotheses)))


@functools.lru_cache(maxsize=64)
def _heard(recogniser: Recogniser, samples: bytes) -> str:
    """What is heard in float32 samples; originals are asked for at every examination."""
    return normalise(recogniser.transcribe(np.frombuffer(samples, np.float32)))
