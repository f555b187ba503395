"""Another voice and another microphone, drawn for every row: what an encoder should not hear in a phone."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.ranges import Count, NotNegative, Share

_WARPED_SHARE = 0.6  # of the band below which the warp is by one factor; above it goes on straight to the band's end
_NEPER_PER_DB = math.log(10) / 20


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """Random changes of log-mel frames that keep the phones: vocal-tract-length perturbation (Jaitly and Hinton 2013),
    a spectral tilt, a smooth equaliser and a gain. One draw holds for the whole row.

    Attributes:
        warp: frequencies are multiplied by a factor between 1 / (1 + warp) and 1 + warp, uniform in its logarithm.
        tilt_db: greatest difference that the tilt makes between the lowest and the highest band, uniform on both sides.
        equaliser_db: deviation of every wave of the equaliser.
        equaliser_waves: cosines over the bands that it is made of.
        gain_db: greatest gain, uniform on both sides.
        share: of the rows that are changed.
    """

    warp: NotNegative = 0.18
    tilt_db: NotNegative = 6.0
    equaliser_db: NotNegative = 2.0
    equaliser_waves: Count = 4
    gain_db: NotNegative = 6.0
    share: Share = 1.0

    def __call__(self, rng: jax.Array, log_mel: jax.Array, sample_rate_hz: int) -> jax.Array:
        """Natural log-mel magnitudes [B, F, M] of bands from 0 Hz to half the rate -> the same, changed."""
        rows, _, num_mels = log_mel.shape
        share_key, warp_key, tilt_key, wave_key, gain_key = jax.random.split(rng, 5)

        def uniform(key):
            return jax.random.uniform(key, (rows,), minval=-1.0, maxval=1.0)

        warped = jnp.einsum(
            "bfm,bmn->bfn", log_mel, warp_matrices(jnp.exp(uniform(warp_key) * math.log1p(self.warp)), num_mels,
                                                   sample_rate_hz)
        )  # fmt: skip
        place = (np.arange(num_mels, dtype=np.float32) + 0.5) / num_mels
        waves = np.cos(np.pi * np.outer(np.arange(2, 2 + self.equaliser_waves), place))
        heights = self.equaliser_db * jax.random.normal(wave_key, (rows, self.equaliser_waves))
        change_db = (
            self.tilt_db * uniform(tilt_key)[:, None] * (place - 0.5)
            + heights @ waves
            + self.gain_db * uniform(gain_key)[:, None]
        )
        changed = warped + _NEPER_PER_DB * change_db[:, None, :]
        chosen = jax.random.uniform(share_key, (rows,)) < self.share
        return jnp.where(chosen[:, None, None], changed, log_mel)


def warp_matrices(factors: jax.Array, num_mels: int, sample_rate_hz: int) -> jax.Array:
    """Matrices float32[B, M, M] by which a row of log-mel bands [.., M] gets its frequencies multiplied by a factor.

    Band n takes what stands at its frequency times the factor, between two bands by their distance. Above
    `_WARPED_SHARE` of the half sample rate the map goes on straight, so that the band's end stays where it is.

    Args:
        factors: float32[B], near 1.
        num_mels, sample_rate_hz: of the mel bands (HTK's scale from 0 Hz to half the rate).
    """
    end_hz = sample_rate_hz / 2
    mel_end = _mel(end_hz)
    centres_hz = _hz(mel_end * np.arange(1, num_mels + 1) / (num_mels + 1)).astype(np.float32)
    factor = factors[:, None]
    knee_hz = _WARPED_SHARE * end_hz * jnp.minimum(factor, 1.0)  # after the warp
    above = end_hz - (end_hz - knee_hz) / (end_hz - knee_hz / factor) * (end_hz - centres_hz)
    source_hz = jnp.where(centres_hz <= knee_hz / factor, centres_hz * factor, above)
    source = jnp.clip(_mel(source_hz) / mel_end * (num_mels + 1) - 1, 0, num_mels - 1)  # [B, M], in bands
    return jnp.maximum(0.0, 1.0 - jnp.abs(source[:, None, :] - np.arange(num_mels, dtype=np.float32)[:, None]))


def _mel(hz):
    return 2595.0 / math.log(10) * (np if isinstance(hz, float) else jnp).log1p(hz / 700.0)


def _hz(mel):
    return 700.0 * np.expm1(mel * math.log(10) / 2595.0)
