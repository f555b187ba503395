"""What a SoundStream is trained to: spectra at six scales, the waveform, and what the discriminators see."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import jax
import jax.numpy as jnp

from audiolm_jax import spectral
from audiolm_jax.codec.adversary.conv1d import Judgement
from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, NotNegative, Range

CORRELATION_SECONDS = 0.02  # a few periods of a voice
Window = Annotated[int, Range(4, multiple_of=4)]  # in samples; hops are a quarter


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the generator's loss; a term of spectra or waveforms of weight 0 is not computed.

    The defaults are ours, for small budgets: every term is a mean of bounded size, so that fixed weights hold for any
    crop and batch. SoundStream's are reconstruction and adversarial 1, feature 100 of absolute features, and none of
    log_mel, mel and correlation.

    Attributes:
        reconstruction: SoundStream's sum over scales and frames (equations 4 to 6).
        log_mel: L1 of log-mel spectra, mean over scales.
        mel: L1 of mel magnitudes relative to their mean, mean over scales; it looks after the loud parts.
        correlation: of the waveforms, in windows of 20 ms. It asks for phases and leaves levels to the spectra; a
            signal-to-distortion ratio asks a decoder that does not know the phase for silence.
        commitment: of the quantizer (VQ-VAE-2: 0.25).
        adversarial: hinge loss, mean over discriminators.
        feature: L1 of the discriminators' inner features.
        relative_features: whether features of a layer count relative to the real signal's; the paper's are absolute.
    """

    reconstruction: NotNegative = 0.0
    log_mel: NotNegative = 1.0
    mel: NotNegative = 1.0
    correlation: NotNegative = 1.0
    commitment: NotNegative = 0.25
    adversarial: NotNegative = 0.1
    feature: NotNegative = 0.5
    relative_features: bool = True

    def total(self, terms: dict[str, jax.Array]) -> jax.Array:
        """The loss of terms by their names in the metrics; "sdr_db" is watched only."""
        weights = dataclasses.asdict(self) | {"sdr_db": 0.0}
        return sum(weights[name] * term for name, term in terms.items())


@dataclasses.dataclass(frozen=True)
class SpectralScales:
    """The mel spectrograms of the reconstruction loss (SoundStream, equations 4 and 5).

    Attributes:
        window_samples: one spectrogram for each; hops are a quarter of the window.
        num_mels: bands of each; a tuple: of each window.
        fft_samples: shortest FFT; shorter windows are padded with zeros, or 64 bands would share 33 bins.
        floor: added to magnitudes before the logarithm, as a share of the loudest band of the original. What lies
            45 dB below the loudest is inaudible and would otherwise cost as much as the rest.
    """

    window_samples: tuple[Window, ...] = (64, 128, 256, 512, 1024, 2048)
    num_mels: Count | tuple[Count, ...] = 64
    fft_samples: Count = 512
    floor: NotNegative = 3e-3

    def __post_init__(self):
        if len(self.mels_by_window) != len(self.window_samples):
            raise UserError(f"SPECTRAL_MELS has {len(self.mels_by_window)} numbers of bands, SPECTRAL_WINDOWS "
                            f"{len(self.window_samples)} windows; give one for each, or one for all")

    @property
    def mels_by_window(self) -> tuple[int, ...]:
        """Bands of each window."""
        return (self.num_mels,) * len(self.window_samples) if isinstance(self.num_mels, int) else self.num_mels


def spectral_losses(
    original: jax.Array, decoded: jax.Array, sample_rate_hz: int, scales: SpectralScales
) -> tuple[jax.Array, jax.Array]:
    """Log-mel L1 in nepers and relative mel-magnitude L1 of decoded against original [B, T], means over the scales.

    Returns:
        (float32[B], float32[B]), one figure for each row.
    """
    log_terms, linear_terms = [], []
    for _, real, made in _mel_spectra(original, decoded, sample_rate_hz, scales):
        floor = scales.floor * jnp.max(real, axis=(1, 2), keepdims=True) + 1e-5
        log_terms.append(jnp.mean(jnp.abs(jnp.log(real + floor) - jnp.log(made + floor)), axis=(1, 2)))
        level = jnp.mean(real, axis=(1, 2), keepdims=True) + 1e-5
        linear_terms.append(jnp.mean(jnp.abs(real - made) / level, axis=(1, 2)))
    return jnp.mean(jnp.stack(log_terms), axis=0), jnp.mean(jnp.stack(linear_terms), axis=0)


def reconstruction_loss(
    original: jax.Array, decoded: jax.Array, sample_rate_hz: int, scales: SpectralScales
) -> jax.Array:
    """SoundStream's reconstruction loss float32[B] of decoded against original [B, T] (equations 4 to 6).

    A sum over windows s and frames of the L1 distance of mel spectra and sqrt(s / 2) times the L2 distance of their
    logarithms. The paper says neither magnitude or power, nor the floor under the logarithm: magnitudes, and 1e-5.
    """
    total = jnp.zeros(original.shape[0])
    for window, real, made in _mel_spectra(original, decoded, sample_rate_hz, scales):
        total += jnp.sum(jnp.abs(real - made), axis=(1, 2))
        difference = jnp.sum(jnp.square(jnp.log(real + 1e-5) - jnp.log(made + 1e-5)), axis=2)
        # The square root has no gradient at 0, where decoded and original agree.
        total += (window / 2) ** 0.5 * jnp.sum(jnp.sqrt(difference + 1e-12), axis=1)
    return total


def _mel_spectra(
    original: jax.Array, decoded: jax.Array, sample_rate_hz: int, scales: SpectralScales
) -> Iterator[tuple[int, jax.Array, jax.Array]]:
    """(window, mel magnitudes of the original, of the decoded [B, F, mels]) of each scale."""
    for window, num_mels in zip(scales.window_samples, scales.mels_by_window, strict=True):
        settings = (sample_rate_hz, window, window // 4, num_mels, max(window, scales.fft_samples))
        yield window, *(spectral.mel_magnitude(samples, *settings) for samples in (original, decoded))


def correlation_loss(original: jax.Array, decoded: jax.Array, sample_rate_hz: int) -> jax.Array:
    """1 - correlation of decoded with original [B, T] in windows of 20 ms, float32[B]: 0 at best, 2 at worst.

    Windows below -55 dB of full scale count less the quieter they are.
    """
    window = min(round(CORRELATION_SECONDS * sample_rate_hz), original.shape[1])
    whole = original.shape[1] // window * window
    real, made = (samples[:, :whole].reshape(len(samples), -1, window) for samples in (original, decoded))
    floor = window * 10.0 ** (-55 / 10)
    energies = (jnp.sum(jnp.square(real), axis=-1) + floor) * (jnp.sum(jnp.square(made), axis=-1) + floor)
    return 1.0 - jnp.mean(jnp.sum(real * made, axis=-1) * jax.lax.rsqrt(energies), axis=-1)


def sdr_db(original: jax.Array, decoded: jax.Array) -> jax.Array:
    """Signal-to-distortion ratio float32[B] in dB of decoded against original [B, T], no scaling allowed.

    Near-silent crops are bounded by a noise floor of -80 dB, so that they cannot dominate a batch.
    """
    noise_floor = 1e-8
    signal = jnp.mean(jnp.square(original), axis=-1) + noise_floor
    distortion = jnp.mean(jnp.square(original - decoded), axis=-1) + noise_floor
    return 10.0 * jnp.log10(signal / distortion)


def discriminator_loss(real: list[Judgement], made: list[Judgement]) -> jax.Array:
    """Hinge loss of the discriminators (equation 1), mean over discriminators and time."""
    terms = [
        jnp.mean(jax.nn.relu(1.0 - real_logits)) + jnp.mean(jax.nn.relu(1.0 + made_logits))
        for (real_logits, _), (made_logits, _) in zip(real, made, strict=True)
    ]
    return jnp.mean(jnp.stack(terms))


def adversarial_loss(made: list[Judgement]) -> jax.Array:
    """Hinge loss of the generator (equation 2), mean over discriminators and time."""
    return jnp.mean(jnp.stack([jnp.mean(jax.nn.relu(1.0 - logits)) for logits, _ in made]))


def feature_loss(real: list[Judgement], made: list[Judgement], relative: bool = True) -> jax.Array:
    """Mean distance of inner features (equation 3), mean over layers and discriminators.

    `relative`: each layer's as a share of the real features' mean magnitude.
    """
    terms = []
    for (_, real_maps), (_, made_maps) in zip(real, made, strict=True):
        for real_map, made_map in zip(real_maps, made_maps, strict=True):
            real_map = jax.lax.stop_gradient(real_map)
            level = jnp.mean(jnp.abs(real_map)) + 1e-3 if relative else 1.0
            terms.append(jnp.mean(jnp.abs(real_map - made_map)) / level)
    return jnp.mean(jnp.stack(terms))
