"""Change of the rate of sound."""

import numpy as np

from audiolm_jax.audio.waveform import Waveform, checked_rate
from audiolm_jax.errors import UserError

HIGHEST_RATE_HZ = 768_000


def resample(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """The same sound at another rate (soxr, high quality): ceil(T * new / old) samples.

    Raises UserError for a rate that is not a whole number of 1 to HIGHEST_RATE_HZ.
    """
    sample_rate_hz = checked_rate(sample_rate_hz)
    if waveform.sample_rate_hz == sample_rate_hz:
        return waveform
    if sample_rate_hz > HIGHEST_RATE_HZ:
        raise UserError(f"sample_rate_hz is {sample_rate_hz}; at most {HIGHEST_RATE_HZ} is supported")
    import soxr

    samples = soxr.resample(waveform.samples, waveform.sample_rate_hz, sample_rate_hz, quality="HQ")
    # soxr rounds the length; a fixed rule keeps token counts a function of the input's length alone.
    num_samples = -(-len(waveform.samples) * sample_rate_hz // waveform.sample_rate_hz)
    samples = np.pad(samples[:num_samples], (0, max(0, num_samples - len(samples))))
    return Waveform(samples, sample_rate_hz)
