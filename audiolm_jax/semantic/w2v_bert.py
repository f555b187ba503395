"""w2v-BERT (Chung et al. 2021): log-mel frames, conformers, a contrastive and a masked-prediction module."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, NotNegative, Positive, Share, Whole
from audiolm_jax.semantic import kmeans, objectives
from audiolm_jax.semantic.network.conformer import ConformerStack, Linear
from audiolm_jax.semantic.network.encoder import Encoder
from audiolm_jax.semantic.network.front_end import HOP_SAMPLES, SAMPLE_RATE_HZ, FrontEnd

_QUANTIZER_START_ITERATIONS = 5


@dataclasses.dataclass(frozen=True)
class W2vBertConfig(Encoder):
    """Shape and objective of a w2v-BERT.

    Attributes:
        dim: width D of the conformers and of the features.
        num_heads: attention heads.
        mlp_dim: inner width of the feed-forward modules.
        conv_kernel_frames: kernel of the depthwise convolution.
        contrastive_layers: conformer blocks before the contrastive loss.
        mlm_layers: conformer blocks after it, before masked prediction.
        frontend_channels: channels of the two 3 x 3 convolutions on the mel spectrogram.
        codebook_size: codes of the quantizer, which are the classes of masked prediction.
        code_dim: width of a code.
        dropout: on the output of every module of a block, and on the projected input.
        mask_start_probability: chance of a valid frame to start a masked span.
        mask_span_frames: length of a span.
        mask_noise_std: masked frames are replaced by normal noise of this deviation; frames themselves have 1.
        num_distractors: K of the contrastive loss.
        contrastive_temperature: divides the cosine.
        diversity_weight: of the diversity loss in the contrastive one.
        gumbel_start, gumbel_end, gumbel_decay: temperature max(end, start * decay^step) of the quantizer.
        quantizer_logit_std: deviation of the quantizer's logits at the start. Large against the Gumbel noise: the
            codes then depend on the sound from the first step, and the contrastive loss has something to learn.
        compute_dtype: "float32" or "bfloat16"; norms, softmax and losses are float32 always.
        scan_unroll: blocks unrolled per iteration of the scan over layers; changes speed only.
    """

    dim: Count = 1024
    num_heads: Count = 8
    mlp_dim: Count = 4096
    conv_kernel_frames: Count = 5
    contrastive_layers: Whole = 12
    mlm_layers: Whole = 12
    frontend_channels: Count = 128
    codebook_size: Count = 1024
    code_dim: Count = 1024
    dropout: Share = 0.1
    mask_start_probability: Share = 0.065
    mask_span_frames: Count = 10
    mask_noise_std: float = 0.1
    num_distractors: Count = 100
    contrastive_temperature: float = 0.1
    diversity_weight: NotNegative = 0.1
    gumbel_start: Positive = 2.0
    gumbel_end: Positive = 0.1
    gumbel_decay: Share = 0.999995
    quantizer_logit_std: float = 10.0
    compute_dtype: str = "float32"
    scan_unroll: Count = 1

    def __post_init__(self):
        if self.dim % self.num_heads:
            raise UserError(f"dim {self.dim} must be a multiple of num_heads {self.num_heads}")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise UserError(f"compute_dtype is '{self.compute_dtype}', but must be float32 or bfloat16")

    @property
    def sample_rate_hz(self) -> int:
        return SAMPLE_RATE_HZ

    @property
    def hop_samples(self) -> int:
        return HOP_SAMPLES

    @property
    def num_layers(self) -> int:
        return self.contrastive_layers + self.mlm_layers

    def init(self, rng: jax.Array) -> Any:
        """Random parameters, boxed with their logical axes."""
        samples, valid = pad_to_frames(jnp.zeros((1, HOP_SAMPLES)))
        return W2vBert(self).init(rng, samples, valid, jnp.zeros((), jnp.int32), rng, deterministic=True)["params"]

    def frames(self, params: Any, samples, num_samples, layer: int, first_frame=0) -> jax.Array:
        """See `features`."""
        return features(self, params, samples, num_samples, layer, first_frame)

    def used_params(self, params: Any, layer: int) -> dict[str, Any]:
        """Without the layers above, the quantizer and the two heads, which serve the training only."""
        contrastive_layers = min(layer, self.contrastive_layers)
        counts = {"contrastive_stack": contrastive_layers, "mlm_stack": layer - contrastive_layers}
        used = {name: params[name] for name in ("front_end", "input_projection")}
        return used | {
            name: jax.tree.map(lambda stacked, count=count: stacked[:count], params[name])
            for name, count in counts.items()
            if count
        }


class Predictions(NamedTuple):
    """What one masked forward pass gives: means over masked frames of the batch, float32[], and counts of codes."""

    loss: jax.Array
    contrastive_loss: jax.Array
    contrastive_accuracy: jax.Array
    diversity_loss: jax.Array
    masked_prediction_loss: jax.Array
    masked_prediction_accuracy: jax.Array
    soft_perplexity: jax.Array
    code_perplexity: jax.Array
    masked_share: jax.Array
    codes: objectives.ClassCounts


class Masked(NamedTuple):
    """A pass of the encoder over masked frames.

    Attributes:
        masked: bool[B, T], which they are.
        middle: [B, T, D], output of the last contrastive block.
        last: [B, T, D], output of the last block.
    """

    masked: jax.Array
    middle: jax.Array
    last: jax.Array


def num_frames(num_samples):
    """Frames of a waveform: ceil(num_samples / 640)."""
    return -(-num_samples // HOP_SAMPLES)


class GumbelQuantizer(nn.Module):
    """Chooses one code per frame; the gradient passes the choice by the straight-through Gumbel softmax.

    Args of the call:
        x: [B, T, F], unmasked front-end frames.
        temperature: float32[].
        rng: key of the Gumbel noise, or None to choose the likeliest code.

    Returns:
        quantized float32[B, T, C], chosen_ids int32[B, T] (the code that `quantized` is, noise and all), code_ids
        int32[B, T] (the likeliest code, free of noise: the target of masked prediction), logits float32[B, T, V].
    """

    codebook_size: int
    code_dim: int
    logit_std: float

    @nn.compact
    def __call__(self, x, temperature, rng):
        fan_in = x.shape[-1]
        kernel_init = nn.initializers.normal(self.logit_std * fan_in**-0.5)
        kernel_init = nn.with_logical_partitioning(kernel_init, ("embed", "vocab"))
        kernel = self.param("kernel", kernel_init, (fan_in, self.codebook_size), jnp.float32)
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",))
        bias = self.param("bias", bias_init, (self.codebook_size,), jnp.float32)
        codes_init = nn.with_logical_partitioning(nn.initializers.normal(1.0), ("vocab", "embed"))
        codes = self.param("codes", codes_init, (self.codebook_size, self.code_dim), jnp.float32)
        logits = x.astype(jnp.float32) @ kernel + bias
        noisy = logits
        if rng is not None:
            noisy = logits + jax.random.gumbel(rng, logits.shape)
        soft = jax.nn.softmax(noisy / temperature, axis=-1)
        chosen_ids, code_ids = (jnp.argmax(scores, axis=-1).astype(jnp.int32) for scores in (noisy, logits))
        hard = jax.nn.one_hot(chosen_ids, self.codebook_size, dtype=jnp.float32)
        chosen = hard + soft - jax.lax.stop_gradient(soft)
        return chosen @ codes, chosen_ids, code_ids, logits


class W2vBert(nn.Module):
    """The network. `__call__` is the masked training pass; `encode` is the unmasked feature extractor.

    With `remat` a gradient keeps the inputs of the conformer blocks only.
    """

    config: W2vBertConfig
    remat: bool = False

    def setup(self):
        config = self.config
        block = (config.num_heads, config.mlp_dim, config.conv_kernel_frames, config.dropout, config.compute_dtype)
        self.front_end = FrontEnd(config.frontend_channels, config.compute_dtype)
        self.input_projection = Linear(config.dim, ("mlp", "embed"), config.compute_dtype)
        self.input_dropout = nn.Dropout(config.dropout)
        speed = {"scan_unroll": config.scan_unroll, "remat": self.remat}
        self.contrastive_stack = ConformerStack(config.contrastive_layers, *block, **speed)
        self.mlm_stack = ConformerStack(config.mlm_layers, *block, **speed)
        self.quantizer = GumbelQuantizer(config.codebook_size, config.code_dim, config.quantizer_logit_std)
        self.context_projection = Linear(config.code_dim, ("embed", None), config.compute_dtype)
        self.prediction = Linear(config.codebook_size, ("embed", "vocab"), config.compute_dtype)

    def _blocks(self, frames, valid, deterministic):
        """Output of the last contrastive block and of the last masked-prediction block, [B, T, D] each."""
        x = self.input_dropout(self.input_projection(frames), deterministic=deterministic)
        context = self.contrastive_stack(x, valid, deterministic)
        return context, self.mlm_stack(context, valid, deterministic)

    def encode(self, samples, valid):
        """Output of the last block for unmasked samples [B, T * 640]: [B, T, D]."""
        return self._blocks(self.front_end(samples, valid), valid, deterministic=True)[1]

    def front(self, samples, valid):
        """Front-end frames [B, T, F], which the quantizer sees."""
        return self.front_end(samples, valid)

    def masked(self, samples, valid, rng, deterministic: bool, perturb=None) -> "Masked":
        """The encoder on samples [B, T * 640], spans of whose frames are masked; `perturb` is `FrontEnd`'s."""
        return self._masked(self.front_end(samples, valid, perturb), valid, *jax.random.split(rng), deterministic)

    def _masked(self, frames, valid, mask_key, noise_key, deterministic):
        config = self.config
        masked = objectives.span_mask(mask_key, valid, config.mask_start_probability, config.mask_span_frames)
        noise = config.mask_noise_std * jax.random.normal(noise_key, frames.shape, frames.dtype)
        return Masked(masked, *self._blocks(jnp.where(masked[..., None], noise, frames), valid, deterministic))

    def __call__(self, samples, valid, step, rng, deterministic: bool = False) -> Predictions:
        """Losses of one masked pass.

        Args:
            samples: float32[B, T * 640].
            valid: bool [B, T].
            step: int32[], for the Gumbel temperature.
            rng: key of the mask, its noise, the distractors and the Gumbel noise.
            deterministic: True leaves out dropout and the Gumbel noise (evaluation; the mask stays).
        """
        config = self.config
        mask_key, noise_key, distractor_key, gumbel_key = jax.random.split(rng, 4)
        frames = self.front_end(samples, valid)
        masked, context, predicted = self._masked(frames, valid, mask_key, noise_key, deterministic)

        decayed = config.gumbel_start * config.gumbel_decay ** step.astype(jnp.float32)
        temperature = jnp.maximum(decayed, config.gumbel_end)
        choice_key = None if deterministic else gumbel_key
        quantized, chosen_ids, code_ids, code_logits = self.quantizer(frames, temperature, choice_key)
        chosen_ids, code_ids = jax.lax.stop_gradient((chosen_ids, code_ids))

        positions, usable = objectives.distractors(distractor_key, masked, config.num_distractors)
        contrastive_loss, contrastive_accuracy = objectives.contrastive(
            self.context_projection(context), quantized, chosen_ids, positions, usable, config.contrastive_temperature
        )
        diversity_loss, soft_perplexity = objectives.diversity(code_logits, valid)
        logits = self.prediction(predicted)
        mlm_loss, mlm_accuracy = objectives.masked_prediction(logits, code_ids, masked)
        return Predictions(
            loss=contrastive_loss + config.diversity_weight * diversity_loss + mlm_loss,
            contrastive_loss=contrastive_loss,
            contrastive_accuracy=contrastive_accuracy,
            diversity_loss=diversity_loss,
            masked_prediction_loss=mlm_loss,
            masked_prediction_accuracy=mlm_accuracy,
            soft_perplexity=soft_perplexity,
            code_perplexity=objectives.code_perplexity(code_ids, valid, config.codebook_size),
            masked_share=jnp.sum(masked) / jnp.maximum(jnp.sum(valid), 1),
            codes=objectives.class_counts(logits, code_ids, masked),
        )


def quantizer_start(config: W2vBertConfig, rng: jax.Array, frames: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """Kernel and bias of the quantizer whose likeliest code is the nearest centroid of a first batch of frames.

    With random logits most frames choose one of a handful of codes at first, because the frames have much in common;
    it then takes long until the diversity loss has spread them. k-means spreads them before the first step.

    Args:
        config: gives the number of codes and the deviation of the logits.
        rng: key.
        frames: [N, F] front-end frames.
        valid: bool [N].

    Returns:
        {"kernel": float32[F, V], "bias": float32[V]}.
    """
    statistics = kmeans.add_frames(kmeans.Statistics.empty(frames.shape[1]), frames, valid)
    # Frames stay on the devices of their rows, for a large batch of them fits no device.
    standardised = nn.with_logical_constraint((frames - statistics.mean) / statistics.std, ("act_batch", None))
    clusters = kmeans.fit(rng, standardised, valid, config.codebook_size, _QUANTIZER_START_ITERATIONS)
    scores = -0.5 * kmeans.squared_distances(standardised, clusters.centroids)  # [N, V], largest at the nearest
    weights = valid.astype(jnp.float32)[:, None] / jnp.sum(valid)
    spread = jnp.sqrt(jnp.sum(weights * jnp.square(scores - scores.mean(axis=1, keepdims=True))) / scores.shape[1])
    scale = config.quantizer_logit_std / jnp.maximum(spread, 1e-6)
    centroids = nn.with_logical_constraint(clusters.centroids, (None, None))
    kernel = centroids.T / statistics.std[:, None]
    bias = -statistics.mean @ kernel - 0.5 * jnp.sum(jnp.square(centroids), axis=1)
    return {"kernel": scale * kernel, "bias": scale * bias}


def valid_frames(num_padded_frames: int, num_samples, first_frame=0) -> jax.Array:
    """bool [B, T]: frames from `first_frame` (int or int32[B]) that hold one of the `num_samples` [B] samples."""
    frame = jnp.arange(num_padded_frames)
    start = jnp.asarray(first_frame)
    start = start[:, None] if start.ndim else start
    return (frame >= start) & (frame < num_frames(jnp.asarray(num_samples))[:, None])


def pad_to_frames(samples, num_samples=None, first_frame=0) -> tuple[jax.Array, jax.Array]:
    """Samples [B, T] padded to whole frames, zero outside each row, and the mask of its frames.

    Returns:
        (float32[B, T_s * 640], bool [B, T_s]), T_s = ceil(T / 640).
    """
    samples = jnp.asarray(samples, jnp.float32)
    total = num_frames(samples.shape[1])
    num_samples = jnp.full(samples.shape[:1], samples.shape[1]) if num_samples is None else jnp.asarray(num_samples)
    samples = jnp.pad(samples, ((0, 0), (0, total * HOP_SAMPLES - samples.shape[1])))
    index = jnp.arange(total * HOP_SAMPLES)
    valid = valid_frames(total, num_samples, first_frame)
    inside = (index < num_samples[:, None]) & jnp.repeat(valid, HOP_SAMPLES, axis=1)
    return jnp.where(inside, samples, 0.0), valid


def features(
    config: W2vBertConfig, params: Any, samples, num_samples=None, layer: int | None = None, first_frame=0
) -> jax.Array:
    """Features of one layer, without masking, dropout or noise.

    Args:
        config: of the trained model.
        params: its parameters; those of layers above `layer` are not used.
        samples: float32[B, T] at 16 kHz.
        num_samples: int[B] samples that belong to each row; None for all T.
        layer: conformer block, counted from 1 through both modules (masked-prediction layer m is
            `contrastive_layers + m`); 0 is the projected front end. None: the last.
        first_frame: int or int32[B], frames before it count as padding too.

    Returns:
        [B, ceil(T / 640), D] in the compute dtype. Frames that are padding have no meaning.

    Raises:
        UserError: a layer that the model does not have.
    """
    layer = config.num_layers if layer is None else layer
    if not 0 <= layer <= config.num_layers:
        raise UserError(f"layer {layer} is not among the layers 0 to {config.num_layers} of this w2v-BERT")
    contrastive_layers = min(layer, config.contrastive_layers)
    mlm_layers = layer - contrastive_layers
    upto = dataclasses.replace(config, contrastive_layers=contrastive_layers, mlm_layers=mlm_layers)
    used = dict(params)
    for name, count in (("contrastive_stack", contrastive_layers), ("mlm_stack", mlm_layers)):
        if name in used:
            used[name] = jax.tree.map(lambda leaf, count=count: leaf[:count], used[name])
    samples, valid = pad_to_frames(samples, num_samples, first_frame)
    return W2vBert(upto).apply({"params": used}, samples, valid, method=W2vBert.encode)
