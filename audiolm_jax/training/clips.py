"""What a codec in training sounds like: held-out recordings and their reconstructions, for TensorBoard."""

import jax
import jax.numpy as jnp
import numpy as np

from audiolm_jax.codec.learner import SoundStreamLearner
from audiolm_jax.training.loop import Clip, Feed
from audiolm_jax.training.state import TrainState

_NUM_CLIPS = 2


def codec_clips(learner: SoundStreamLearner, feed: Feed, state: TrainState, rng: jax.Array) -> list[Clip]:
    """The first held-out crops, as they are, decoded from a third of the levels and from all of them."""
    del rng  # a reconstruction needs no chance
    batch = next(iter(feed.eval_batches()), None)
    if batch is None:
        return []
    samples = jnp.asarray(batch["samples"][:_NUM_CLIPS])
    codec, params = learner.codec(), learner.codec_params(state)
    tokens = jax.jit(codec.encode)(params, samples)
    decode = jax.jit(codec.decode)
    sounds = {"original": samples}
    for num_quantizers in (max(codec.num_quantizers // 3, 1), codec.num_quantizers):
        sounds[f"{num_quantizers}_levels"] = decode(params, tokens[:, :, :num_quantizers])
    return [
        Clip(f"{row}/{name}", np.asarray(sound[row]), codec.sample_rate_hz)
        for name, sound in sounds.items()
        for row in range(samples.shape[0])
    ]
