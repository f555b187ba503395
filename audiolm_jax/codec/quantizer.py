"""Residual vector quantization with EMA codebooks (SoundStream, section III-C)."""

import dataclasses
import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from audiolm_jax.errors import UserError
from audiolm_jax.nearest import nearest
from audiolm_jax.ranges import Count, Share, Whole

# Scores of latents and entries that the k-means start holds at a time: 256 MB of float32.
_SCORES_AT_ONCE = 1 << 26


def encode(latents: jax.Array, codebooks: jax.Array) -> jax.Array:
    """Tokens int32[B, F, Q] of latents float32[B, F, D] under codebooks float32[Q, N, D]."""

    def level(residual, codebook):
        tokens = nearest(residual, codebook)
        return residual - codebook[tokens], tokens

    _, tokens = jax.lax.scan(level, latents, codebooks)
    return jnp.moveaxis(tokens, 0, -1)


def decode(tokens: jax.Array, codebooks: jax.Array) -> jax.Array:
    """Latents float32[B, F, D]: the sum of the entries that tokens int32[B, F, q] name in the first q codebooks."""
    levels = jnp.arange(tokens.shape[-1])
    return jnp.sum(codebooks[levels, tokens], axis=-2)


@flax.struct.dataclass
class CodebookState:
    """EMA codebooks of all levels.

    Attributes:
        entries: float32[Q, N, D], what encode and decode use.
        sums: float32[Q, N, D], EMA of the sum of vectors assigned to each entry.
        counts: float32[Q, N], EMA of the number of vectors assigned to each entry.
        started: bool[], whether the k-means start has happened.
    """

    entries: jax.Array
    sums: jax.Array
    counts: jax.Array
    started: jax.Array


@dataclasses.dataclass(frozen=True)
class QuantizerSettings:
    """How the codebooks are learned; what they are is in `SoundStreamConfig`.

    Attributes:
        decay: of the EMA of sums and counts (VQ-VAE-2: 0.99).
        dead_share: an entry whose EMA count falls below this share of the mean count is replaced by a vector of the
            batch. The paper has 2, an absolute count, for batches with many vectors per entry; as a share of the mean
            count it serves every batch size.
        start_latents: latents that the k-means start runs on; 0 for eight to an entry, and 8192 at least. The paper
            takes the first batch, which holds too few in a small one.
        kmeans_iterations: Lloyd iterations of the start, per level.
    """

    decay: Share = 0.99
    dead_share: Share = 0.05
    start_latents: Whole = 0
    kmeans_iterations: Count = 10

    def num_start_latents(self, codebook_size: int) -> int:
        """How many latents the start of codebooks of this size takes.

        Raises:
            UserError: `start_latents` are fewer than the entries that start from them.
        """
        if 0 < self.start_latents < codebook_size:
            raise UserError(f"START_LATENTS is {self.start_latents}, but {codebook_size} entries of a codebook start "
                            "from as many latents at least; give more, or 0 for eight to an entry")
        return self.start_latents or max(8192, 8 * codebook_size)


def initial_state(num_quantizers: int, codebook_size: int, embed_dim: int) -> CodebookState:
    """A `CodebookState` before its k-means start: all zeros."""
    zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
    return CodebookState(
        entries=zeros((num_quantizers, codebook_size, embed_dim)),
        sums=zeros((num_quantizers, codebook_size, embed_dim)),
        counts=zeros((num_quantizers, codebook_size)),
        started=jnp.zeros((), bool),
    )


def kmeans_start(
    state: CodebookState, latents: jax.Array, rng: jax.Array, settings: QuantizerSettings
) -> CodebookState:
    """Every level's entries from k-means on what the levels before it leave of latents [M, D], M >= N.

    Once in a training, so every device starts them all. Scores of M latents and N entries are made in chunks: for 16384
    entries they would take gigabytes.
    """
    num_entries = state.entries.shape[1]
    latents = nn.with_logical_constraint(latents, (None, None))

    def assigned(vectors, entries):
        chunk = max(1, _SCORES_AT_ONCE // num_entries)
        return jax.lax.map(lambda vector: nearest(vector, entries), vectors, batch_size=min(chunk, len(vectors)))

    def level(residual, level_rng):
        entries = residual[jax.random.choice(level_rng, residual.shape[0], (num_entries,), replace=False)]

        def lloyd(entries, _):
            counts, sums = _members(assigned(residual, entries), residual, jnp.ones(len(residual)), num_entries)
            return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1.0)[:, None], entries), counts

        entries, counts = jax.lax.scan(lloyd, entries, length=settings.kmeans_iterations)
        return residual - entries[assigned(residual, entries)], (entries, counts[-1])

    _, (entries, counts) = jax.lax.scan(level, latents, jax.random.split(rng, state.entries.shape[0]))
    # Counts start as if they had been averaged over steady batches, all the same: k-means leaves no entry unused for
    # long, and the EMA takes over within 1 / (1 - decay) steps.
    counts = jnp.maximum(counts, 1.0)
    return state.replace(
        entries=entries, sums=entries * counts[..., None], counts=counts, started=jnp.ones((), bool)
    )


def _members(tokens: jax.Array, vectors: jax.Array, weights: jax.Array, num_entries: int):
    """Number float32[N] and sum float32[N, D] of the vectors [V, D] assigned to each entry by tokens int32[V]."""
    counts = jax.ops.segment_sum(weights, tokens, num_entries)
    return counts, jax.ops.segment_sum(vectors * weights[:, None], tokens, num_entries)


def ema_update(
    entries: jax.Array,
    sums: jax.Array,
    counts: jax.Array,
    vectors: jax.Array,
    tokens: jax.Array,
    weights: jax.Array,
    rng: jax.Array,
    settings: QuantizerSettings,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One level's EMA step and revival of dead entries.

    Args:
        entries, sums, counts: [N, D], [N, D], [N] of the level.
        vectors: [V, D], all vectors of the global batch that reached this level.
        tokens: int32[V], the entry that each vector was assigned to.
        weights: float32[V], 0 for a vector that does not count (its example stops at a lower level).
        rng: picks the vectors that replace dead entries.
        settings: decay and the bound for dead entries.

    Returns:
        The new (entries, sums, counts). A revived entry has its sum and count reset with it: otherwise the next step
        would pull it straight back to where it died.
    """
    batch_counts, batch_sums = _members(tokens, vectors, weights, entries.shape[0])
    counts = settings.decay * counts + (1 - settings.decay) * batch_counts
    sums = settings.decay * sums + (1 - settings.decay) * batch_sums
    entries = sums / jnp.maximum(counts, 1e-8)[:, None]
    mean_count = counts.mean()
    dead = counts < settings.dead_share * mean_count
    share = weights / jnp.maximum(weights.sum(), 1e-8)
    fresh = vectors[jax.random.choice(rng, vectors.shape[0], (entries.shape[0],), p=share)]
    entries = jnp.where(dead[:, None], fresh, entries)
    counts = jnp.where(dead, mean_count, counts)
    return entries, jnp.where(dead[:, None], fresh * mean_count, sums), counts


@flax.struct.dataclass
class Quantized:
    """What quantizing a batch in training gives.

    Attributes:
        latents: [B, F, D], quantised, with the straight-through gradient.
        commitment: float32[], mean squared distance to the chosen entries, summed over the levels in use.
        tokens: int32[B, F, Q].
        used: float32[B, Q], 1 where the example uses the level (quantizer dropout).
        residuals: [Q, B, F, D], what each level was given.
    """

    latents: jax.Array
    commitment: jax.Array
    tokens: jax.Array
    used: jax.Array
    residuals: jax.Array


def quantize(latents: jax.Array, entries: jax.Array, num_levels: jax.Array) -> Quantized:
    """Quantizes latents [B, F, D] with the first num_levels int32[B] levels of entries [Q, N, D] per example."""
    # On a mesh that splits the codebooks, every device gathers them here; otherwise it would add up partial distances.
    entries = nn.with_logical_constraint(entries, (None, None, None))
    used = (jnp.arange(entries.shape[0]) < num_levels[:, None]).astype(jnp.float32)

    def level(residual, inputs):
        codebook, level_used = inputs
        tokens = nearest(jax.lax.stop_gradient(residual), codebook)
        chosen = jax.lax.stop_gradient(codebook[tokens])
        distance = jnp.mean(jnp.square(residual - chosen), axis=(1, 2))
        return residual - chosen, (chosen * level_used[:, None, None], tokens, distance * level_used, residual)

    _, (chosen, tokens, distance, residuals) = jax.lax.scan(level, latents, (entries, used.T))
    quantized = latents + jax.lax.stop_gradient(chosen.sum(axis=0) - latents)
    return Quantized(
        latents=quantized,
        commitment=distance.sum(axis=0).mean(),
        tokens=jnp.moveaxis(tokens, 0, -1),
        used=used,
        residuals=jax.lax.stop_gradient(residuals),
    )


def update(state: CodebookState, quantized: Quantized, rng: jax.Array, settings: QuantizerSettings) -> CodebookState:
    """`state` after the EMA step of every level on a global batch (all devices' vectors: sums under jit are global)."""
    num_levels, _, embed_dim = state.entries.shape
    weights = jnp.broadcast_to(quantized.used.T[:, :, None], (num_levels, *quantized.tokens.shape[:2]))
    entries, sums, counts = jax.vmap(functools.partial(ema_update, settings=settings))(
        state.entries,
        state.sums,
        state.counts,
        quantized.residuals.reshape(num_levels, -1, embed_dim),
        jnp.moveaxis(quantized.tokens, -1, 0).reshape(num_levels, -1),
        weights.reshape(num_levels, -1),
        jax.random.split(rng, num_levels),
    )
    return state.replace(entries=entries, sums=sums, counts=counts)
