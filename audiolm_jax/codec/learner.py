"""Training of SoundStream: generator, codebooks and discriminators in one step."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from audiolm_jax.codec import losses, quantizer
from audiolm_jax.codec.discriminators import Discriminators
from audiolm_jax.codec.losses import LossWeights, SpectralScales
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig
from audiolm_jax.training.state import Metric, Metrics, TrainState


@dataclasses.dataclass(frozen=True)
class SoundStreamLearner:
    """Learner of a SoundStream on batches {"samples": float32[B, T]}; T is a multiple of the hop.

    Training has three phases, by step: an autoencoder without quantizer, until `quantizer_start_step`; then the
    k-means start of the codebooks and training through them; from `discriminator_start_step` on, with discriminators.
    Set both to 0 for the paper's, which has a single phase. On a small budget the phases keep the young quantizer and
    the young discriminators from stopping the autoencoder before it has learned to convey the signal.

    Attributes:
        config: of the codec.
        optimizer: of encoder and decoder.
        discriminator_optimizer: of the discriminators.
        discriminators: their architecture.
        loss_weights: of the generator's loss.
        scales: of its spectral terms.
        quantizer_settings: how the codebooks are learned.
        quantizer_start_step: step of the k-means start.
        discriminator_start_step: step from which the discriminators train and count.
        full_rate_share: share of examples that use all levels; the others draw their number uniformly (quantizer
            dropout).
    """

    config: SoundStreamConfig
    optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    discriminators: Discriminators = Discriminators()
    loss_weights: LossWeights = LossWeights()
    scales: SpectralScales = SpectralScales()
    quantizer_settings: QuantizerSettings = QuantizerSettings()
    quantizer_start_step: int = 0
    discriminator_start_step: int = 0
    full_rate_share: float = 0.0
    name: str = "codec"

    def _init_modules(self, rng: jax.Array, samples: jax.Array):
        encoder_rng, decoder_rng, discriminator_rng = jax.random.split(rng, 3)
        frames = samples.shape[1] // self.config.hop_samples
        latents = jnp.zeros((samples.shape[0], frames, self.config.embed_dim))
        return {
            "generator": {
                "encoder": Encoder(self.config).init(encoder_rng, samples)["params"],
                "decoder": Decoder(self.config).init(decoder_rng, latents)["params"],
            },
            "discriminators": self.discriminators.init(discriminator_rng, samples)["params"],
        }

    def init(self, rng, batch) -> TrainState:
        params = nn.unbox(self._init_modules(rng, jnp.asarray(batch["samples"])))
        codebooks = quantizer.initial_state(
            self.config.num_quantizers, self.config.codebook_size, self.config.embed_dim, self.quantizer_settings
        )
        opt_state = {
            "generator": self.optimizer.init(params["generator"]),
            "discriminators": self.discriminator_optimizer.init(params["discriminators"]),
        }
        return TrainState.create(params, opt_state, {"codebooks": codebooks})

    def logical_axes(self, batch):
        """Names of the parameters' axes, a tree like `TrainState.params`."""
        samples = jax.ShapeDtypeStruct(batch["samples"].shape, jnp.float32)
        return nn.get_partition_spec(jax.eval_shape(self._init_modules, jax.random.key(0), samples))

    def collection_axes(self, batch):
        """Codebooks and recent latents are split along their width."""
        del batch
        entries, recent = (None, "vocab", "embed"), (None, "embed")
        return {"codebooks": quantizer.CodebookState(entries, entries, None, recent, None)}

    def train_step(self, state: TrainState, batch, rng) -> tuple[TrainState, Metrics]:
        samples = batch["samples"]
        start_rng, dropout_rng, full_rng, revival_rng = jax.random.split(rng, 4)
        quantizes = state.step >= self.quantizer_start_step
        judges = state.step >= self.discriminator_start_step
        batch_size, max_levels = samples.shape[0], self.config.num_quantizers
        num_levels = jnp.where(
            jax.random.uniform(full_rng, (batch_size,)) < self.full_rate_share,
            max_levels,
            jax.random.randint(dropout_rng, (batch_size,), 1, max_levels + 1),
        )

        def generator_loss(generator):
            latents = Encoder(self.config).apply({"params": generator["encoder"]}, samples)
            codebooks = quantizer.remember(state.collections["codebooks"], latents)
            codebooks = jax.lax.cond(
                quantizes & ~codebooks.started,
                lambda: quantizer.kmeans_start(codebooks, start_rng, self.quantizer_settings),
                lambda: codebooks,
            )
            quantized = quantizer.quantize(latents, codebooks.entries, num_levels)
            passed = jnp.where(quantizes, quantized.latents, latents)
            decoded = Decoder(self.config).apply({"params": generator["decoder"]}, passed)
            terms = jax.tree.map(jnp.mean, self._reconstruction_terms(samples, decoded))
            terms["commitment"] = jnp.where(quantizes, quantized.commitment, 0.0)
            adversarial, feature = jax.lax.cond(
                judges,
                lambda: self._adversarial_terms(state.params["discriminators"], samples, decoded),
                lambda: (jnp.zeros(()), jnp.zeros(())),
            )
            terms |= {"adversarial": adversarial, "feature": feature}
            return self._weighted(terms), (terms, decoded, codebooks, quantized)

        (loss, (terms, decoded, codebooks, quantized)), gradient = jax.value_and_grad(generator_loss, has_aux=True)(
            state.params["generator"]
        )
        updates, generator_opt = self.optimizer.update(
            gradient, state.opt_state["generator"], state.params["generator"]
        )
        generator = optax.apply_updates(state.params["generator"], updates)
        discriminators, discriminator_opt, discriminator_loss = jax.lax.cond(
            judges,
            lambda: self._discriminator_update(state, samples, decoded),
            lambda: (state.params["discriminators"], state.opt_state["discriminators"], jnp.zeros(())),
        )
        codebooks = jax.lax.cond(
            quantizes,
            lambda: quantizer.update(codebooks, quantized, revival_rng, self.quantizer_settings),
            lambda: codebooks,
        )
        metrics = {name: Metric.of(term) for name, term in terms.items()} | {
            "loss": Metric.of(loss),
            "discriminator": Metric.of(discriminator_loss),
            "gradient_norm": Metric.of(optax.global_norm(gradient)),
        }
        return TrainState(
            step=state.step + 1,
            params={"generator": generator, "discriminators": discriminators},
            opt_state={"generator": generator_opt, "discriminators": discriminator_opt},
            collections={"codebooks": codebooks},
        ), metrics

    def eval_step(self, state: TrainState, batch) -> Metrics:
        """Loss, spectral terms and SDR with all levels, and the same without quantizer.

        Rows with `example_weights` 0 count in none of them.
        """
        samples = jnp.asarray(batch["samples"])
        weights = jnp.asarray(batch.get("example_weights", jnp.ones(samples.shape[0])), jnp.float32)
        generator, codebooks = state.params["generator"], state.collections["codebooks"]
        latents = Encoder(self.config).apply({"params": generator["encoder"]}, samples)
        tokens = quantizer.encode(latents, codebooks.entries)
        quantized = jnp.where(codebooks.started, quantizer.decode(tokens, codebooks.entries), latents)
        metrics = {}
        for suffix, passed in (("", quantized), ("_unquantized", latents)):
            decoded = Decoder(self.config).apply({"params": generator["decoder"]}, passed)
            rows = self._reconstruction_terms(samples, decoded)
            metrics |= {name + suffix: Metric.mean(term, weights) for name, term in rows.items()}
            metrics["loss" + suffix] = Metric.mean(self._weighted(rows), weights)
        return metrics

    def codec(self) -> SoundStream:
        """The codec that `codec_params` belong to."""
        return SoundStream(self.config)

    def codec_params(self, state: TrainState):
        """What `SoundStream` needs, out of a training state."""
        return {**state.params["generator"], "codebooks": state.collections["codebooks"].entries}

    def _reconstruction_terms(self, samples, decoded) -> dict[str, jax.Array]:
        """Each float32[B], one figure for each row."""
        log_mel, mel = losses.spectral_losses(samples, decoded, self.config.sample_rate_hz, self.scales)
        return {"log_mel": log_mel, "mel": mel, "sdr_db": losses.sdr_db(samples, decoded)}

    def _weighted(self, terms) -> jax.Array:
        weights = self.loss_weights
        total = weights.log_mel * terms["log_mel"] + weights.mel * terms["mel"] - weights.sdr * terms["sdr_db"]
        for name in ("commitment", "adversarial", "feature"):
            if name in terms:
                total += getattr(weights, name) * terms[name]
        return total

    def _adversarial_terms(self, discriminators, samples, decoded):
        judge = {"params": discriminators}
        real = self.discriminators.apply(judge, samples)
        made = self.discriminators.apply(judge, decoded)
        return losses.adversarial_loss(made), losses.feature_loss(real, made)

    def _discriminator_update(self, state: TrainState, samples, decoded):
        decoded = jax.lax.stop_gradient(decoded)

        def loss(discriminators):
            judge = {"params": discriminators}
            return losses.discriminator_loss(
                self.discriminators.apply(judge, samples), self.discriminators.apply(judge, decoded)
            )

        params = state.params["discriminators"]
        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = self.discriminator_optimizer.update(gradient, state.opt_state["discriminators"], params)
        return optax.apply_updates(params, updates), opt_state, value
