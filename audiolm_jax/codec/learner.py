"""Training of SoundStream: generator, codebooks and discriminators in one step."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from audiolm_jax.codec import losses, quantizer
from audiolm_jax.codec.adversary.discriminators import Discriminators
from audiolm_jax.codec.losses import LossWeights, SpectralScales
from audiolm_jax.codec.quantizer import QuantizerSettings
from audiolm_jax.codec.soundstream import Decoder, Encoder, SoundStream, SoundStreamConfig
from audiolm_jax.ranges import Range, Share, Whole
from audiolm_jax.training.state import Metric, Metrics, TrainState


class Phase(NamedTuple):
    """What a step trains. The loop compiles each phase on its own: XLA runs what stands in a `cond` many times slower
    on CPU, and on every backend keeps the memory of all branches.

    Attributes:
        quantizes: whether latents pass the quantizer.
        judges: whether the discriminators train and count.
    """

    quantizes: bool
    judges: bool

    def __str__(self) -> str:
        quantizer = "through the quantizer" if self.quantizes else "without quantizer"
        return quantizer + (", with discriminators" if self.judges else "")


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
        average_decay: of the moving average of the generator's weights and of the codebooks, which is what is evaluated
            and exported; 0 for none. An averaged encoder needs the average of the codebooks that its latents met.
    """

    config: SoundStreamConfig
    optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    discriminators: Discriminators = Discriminators()
    loss_weights: LossWeights = LossWeights()
    scales: SpectralScales = SpectralScales()
    quantizer_settings: QuantizerSettings = QuantizerSettings()
    quantizer_start_step: Whole = 0
    discriminator_start_step: Whole = 0
    full_rate_share: Share = 0.0
    average_decay: Share = 0.0
    name: str = "codec"

    def __post_init__(self):
        self.quantizer_settings.num_start_latents(self.config.codebook_size)  # a refusal comes before the training

    @property
    def crop_range(self) -> Range:
        """Samples of a crop: whole frames, and no fewer than the longest window of the loss."""
        return Range(max(self.scales.window_samples), multiple_of=self.config.hop_samples)

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
            self.config.num_quantizers, self.config.codebook_size, self.config.embed_dim
        )
        collections = {"codebooks": codebooks}
        if self.average_decay:
            collections["average"] = params["generator"] | {"codebooks": codebooks.entries}
        opt_state = {
            "generator": self.optimizer.init(params["generator"]),
            "discriminators": self.discriminator_optimizer.init(params["discriminators"]),
        }
        return TrainState.create(params, opt_state, collections)

    def logical_axes(self, batch):
        """Names of the parameters' axes, a tree like `TrainState.params`."""
        samples = jax.ShapeDtypeStruct(batch["samples"].shape, jnp.float32)
        return nn.get_partition_spec(jax.eval_shape(self._init_modules, jax.random.key(0), samples))

    def collection_axes(self, batch):
        """Codebooks are split along their width, the average like the generator."""
        entries = (None, "vocab", "embed")
        axes = {"codebooks": quantizer.CodebookState(entries, entries, None, None)}
        average = self.logical_axes(batch)["generator"] | {"codebooks": entries}
        return axes | ({"average": average} if self.average_decay else {})

    def phase(self, step: int) -> Phase:
        """What is trained at a step; each phase is a program of its own, see `Phase`."""
        return Phase(step >= self.quantizer_start_step, step >= self.discriminator_start_step)

    def start_batches(self, step: int, batch) -> int:
        """How many batches the k-means start of the codebooks takes before this step."""
        if step != self.quantizer_start_step:
            return 0
        batch_size, num_samples = batch["samples"].shape
        latents = batch_size * (num_samples // self.config.hop_samples)
        return -(-self.quantizer_settings.num_start_latents(self.config.codebook_size) // latents)

    def start_features(self, state: TrainState, batch) -> jax.Array:
        """Latents [B * F, D] of a batch."""
        encoder = {"params": state.params["generator"]["encoder"]}
        return Encoder(self.config).apply(encoder, batch["samples"]).reshape(-1, self.config.embed_dim)

    def start(self, state: TrainState, features: list[jax.Array], rng: jax.Array) -> TrainState:
        """`state` after the k-means start on the latents of some batches; as it is where the codebooks have started."""
        codebooks = state.collections["codebooks"]
        latents = jnp.concatenate(features)
        codebooks = jax.lax.cond(
            codebooks.started,
            lambda: codebooks,
            lambda: quantizer.kmeans_start(codebooks, latents, rng, self.quantizer_settings),
        )
        collections = state.collections | {"codebooks": codebooks}
        if self.average_decay:  # what was there before the start was no codebook
            average = state.collections["average"]
            entries = jnp.where(state.collections["codebooks"].started, average["codebooks"], codebooks.entries)
            collections["average"] = average | {"codebooks": entries}
        return state.replace(collections=collections)

    def train_step(self, state: TrainState, batch, rng, phase: Phase) -> tuple[TrainState, Metrics]:
        samples = batch["samples"]
        levels_rng, revival_rng = jax.random.split(rng)
        codebooks = state.collections["codebooks"]

        def reconstruct(generator):
            """(decoded, commitment) and what was quantized."""
            latents = Encoder(self.config).apply({"params": generator["encoder"]}, samples)
            quantized, commitment = None, jnp.zeros(())
            if phase.quantizes:
                num_levels = self._draw_levels(levels_rng, samples.shape[0])
                quantized = quantizer.quantize(latents, codebooks.entries, num_levels)
                latents, commitment = quantized.latents, quantized.commitment
            decoded = Decoder(self.config).apply({"params": generator["decoder"]}, latents)
            return (decoded, commitment), quantized

        (decoded, commitment), through_generator, quantized = jax.vjp(
            reconstruct, state.params["generator"], has_aux=True
        )

        def distance(decoded):
            terms = jax.tree.map(jnp.mean, self._reconstruction_terms(samples, decoded))
            return self.loss_weights.total(terms), terms

        gradient, terms = jax.grad(distance, has_aux=True)(decoded)
        terms["commitment"] = commitment
        params, opt_state = dict(state.params), dict(state.opt_state)
        metrics = {}
        if phase.judges:
            judged = self._judge(state.params["discriminators"], samples, decoded)
            gradient += judged.decoded_gradient
            terms |= judged.terms
            params["discriminators"], opt_state["discriminators"] = _updated(
                self.discriminator_optimizer, judged.gradient, state, "discriminators"
            )
            metrics["discriminator"] = Metric.of(judged.loss)
        (generator_gradient,) = through_generator((gradient, self.loss_weights.commitment * jnp.ones(())))
        params["generator"], opt_state["generator"] = _updated(self.optimizer, generator_gradient, state, "generator")

        collections = dict(state.collections)
        if phase.quantizes:
            collections["codebooks"] = quantizer.update(codebooks, quantized, revival_rng, self.quantizer_settings)
        if self.average_decay:
            current = params["generator"] | {"codebooks": collections["codebooks"].entries}
            collections["average"] = self._averaged(state, current)
        metrics |= {name: Metric.of(term) for name, term in terms.items()} | {
            "loss": Metric.of(self.loss_weights.total(terms)),
            "gradient_norm": Metric.of(optax.global_norm(generator_gradient)),
        }
        return TrainState(state.step + 1, params, opt_state, collections), metrics

    def _draw_levels(self, rng: jax.Array, batch_size: int) -> jax.Array:
        """int32[B], how many levels each example uses (quantizer dropout)."""
        dropout_rng, full_rng = jax.random.split(rng)
        drawn = jax.random.randint(dropout_rng, (batch_size,), 1, self.config.num_quantizers + 1)
        is_full = jax.random.uniform(full_rng, (batch_size,)) < self.full_rate_share
        return jnp.where(is_full, self.config.num_quantizers, drawn)

    def _averaged(self, state: TrainState, current):
        """The moving average; it begins as a copy and forgets the first steps soon."""
        decay = jnp.minimum(self.average_decay, (1.0 + state.step) / (10.0 + state.step))
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.collections["average"], current)

    def eval_step(self, state: TrainState, batch) -> Metrics:
        """Loss, spectral terms and SDR with all levels, and the same without quantizer.

        Rows with `example_weights` 0 count in none of them.
        """
        samples = jnp.asarray(batch["samples"])
        weights = jnp.asarray(batch.get("example_weights", jnp.ones(samples.shape[0])), jnp.float32)
        exported = self.codec_params(state)
        latents = Encoder(self.config).apply({"params": exported["encoder"]}, samples)
        tokens = quantizer.encode(latents, exported["codebooks"])
        started = state.collections["codebooks"].started
        quantized = jnp.where(started, quantizer.decode(tokens, exported["codebooks"]), latents)
        metrics = {}
        for suffix, passed in (("", quantized), ("_unquantized", latents)):
            decoded = Decoder(self.config).apply({"params": exported["decoder"]}, passed)
            rows = self._reconstruction_terms(samples, decoded)
            metrics |= {name + suffix: Metric.mean(term, weights) for name, term in rows.items()}
            metrics["loss" + suffix] = Metric.mean(self.loss_weights.total(rows), weights)
        return metrics

    def codec(self) -> SoundStream:
        """The codec that `codec_params` belong to."""
        return SoundStream(self.config)

    def codec_params(self, state: TrainState):
        """What `SoundStream` needs, out of a training state."""
        return exported_params(state.params, state.collections, state.collections["codebooks"].entries)

    def _reconstruction_terms(self, samples, decoded) -> dict[str, jax.Array]:
        """Each float32[B], one figure for each row."""
        weights, rate_hz, terms = self.loss_weights, self.config.sample_rate_hz, {}
        if weights.reconstruction:
            terms["reconstruction"] = losses.reconstruction_loss(samples, decoded, rate_hz, self.scales)
        if weights.log_mel or weights.mel:
            terms["log_mel"], terms["mel"] = losses.spectral_losses(samples, decoded, rate_hz, self.scales)
        if weights.correlation:
            terms["correlation"] = losses.correlation_loss(samples, decoded, rate_hz)
        return terms | {"sdr_db": losses.sdr_db(samples, decoded)}

    def _judge(self, params, samples, decoded) -> "_Judged":
        """What the discriminators say of the real and the made clip.

        Both are judged once, with the same parameters, and each judgement is differentiated for whom it serves: the
        generator by what was made, the discriminators by their parameters.
        """

        def judge(params, clip):
            return self.discriminators.apply({"params": params}, clip)

        real, to_params_by_real = jax.vjp(lambda params: judge(params, samples), params)
        made, by_made = jax.vjp(judge, params, decoded)

        def generator_loss(made):
            feature = losses.feature_loss(real, made, self.loss_weights.relative_features)
            terms = {"adversarial": losses.adversarial_loss(made), "feature": feature}
            return self.loss_weights.total(terms), terms

        made_cotangent, terms = jax.grad(generator_loss, has_aux=True)(made)
        loss, (real_cotangent, made_judged) = jax.value_and_grad(losses.discriminator_loss, argnums=(0, 1))(real, made)
        gradient = jax.tree.map(jnp.add, to_params_by_real(real_cotangent)[0], by_made(made_judged)[0])
        return _Judged(by_made(made_cotangent)[1], terms, gradient, loss)


def exported_params(params: Any, collections: Any, entries: Any) -> dict[str, Any]:
    """{"encoder", "decoder", "codebooks"} of a training state or checkpoint: the moving average where there is one."""
    return collections.get("average") or {**params["generator"], "codebooks": entries}


class _Judged(NamedTuple):
    """Gradient for the decoded clip [B, T], the generator's terms, the discriminators' gradient and loss."""

    decoded_gradient: jax.Array
    terms: dict[str, jax.Array]
    gradient: Any
    loss: jax.Array


def _updated(optimizer: optax.GradientTransformation, gradient, state: TrainState, part: str):
    """Parameters and optimizer state of one part of a state after an update."""
    updates, opt_state = optimizer.update(gradient, state.opt_state[part], state.params[part])
    return optax.apply_updates(state.params[part], updates), opt_state
