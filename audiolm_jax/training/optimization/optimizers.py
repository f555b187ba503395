"""Adam with warm-up, as every learner here is trained.

The papers state no optimizer for SoundStream nor for AudioLM's Transformers; w2v-BERT XL uses Adam with the Transformer
schedule (linear warm-up, then inverse square root). So: one function, three schedules, everything a number.
"""

import jax
import jax.numpy as jnp
import optax

from audiolm_jax.errors import UserError
from audiolm_jax.ranges import Count, NotNegative, Positive, Share, Whole

SCHEDULES = ("rsqrt", "cosine", "constant")


def learning_rate(
    peak_learning_rate: NotNegative,
    warmup_steps: Whole,
    total_steps: Count,
    schedule: str = "rsqrt",
    cooldown_steps: Whole = 0,
) -> optax.Schedule:
    """Linear warm-up from 0 to the peak over `warmup_steps` updates, then the schedule.

    "rsqrt": peak * sqrt(warmup_steps / step). Independent of `total_steps`: a run can be made longer at any time.
    "cosine": half a cosine from the peak to 1 % of it at `total_steps`.
    "constant": the peak.

    Over the last `cooldown_steps` updates the rate falls to 0, linearly: the noise of a high rate goes, as
    by a cosine, and until then a run can still be made longer.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"schedule is '{schedule}', but must be one of {', '.join(SCHEDULES)}")

    def rate(count):
        step = jnp.asarray(count, jnp.float32) + 1.0  # the first update is step 1, so its rate is not zero
        warmup = jnp.minimum(step / max(warmup_steps, 1), 1.0)
        if schedule == "rsqrt":
            decay = jnp.sqrt(max(warmup_steps, 1) / jnp.maximum(step, max(warmup_steps, 1)))
        elif schedule == "cosine":
            done = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
            decay = 0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        else:
            decay = 1.0
        left = jnp.clip((total_steps - step + 1) / max(cooldown_steps, 1), 0.0, 1.0) if cooldown_steps else 1.0
        return peak_learning_rate * warmup * decay * left

    return rate


def adam(
    peak_learning_rate: NotNegative,
    warmup_steps: Whole,
    total_steps: Count,
    schedule: str = "rsqrt",
    b1: Share = 0.9,
    b2: Share = 0.98,
    weight_decay: NotNegative = 0.0,
    clip_norm: Positive | None = 1.0,
    cooldown_steps: Whole = 0,
) -> optax.GradientTransformation:
    """Clip by global norm, Adam, decoupled weight decay (not on biases and norm scales), learning rate.

    Args:
      peak_learning_rate: the rate at the end of warm-up.
      warmup_steps: updates until the peak.
      total_steps: updates of the whole run; only the cosine schedule and a cooldown depend on it.
      schedule: "rsqrt", "cosine" or "constant" (see `learning_rate`).
      b1, b2: decay of Adam's first and second moment.
      weight_decay: decoupled, multiplied by the learning rate; 0 for none.
      clip_norm: the gradients' largest global norm; None for no clipping.
      cooldown_steps: last updates, over which the rate falls to 0.

    Raises:
      UserError: an unknown schedule.
    """
    steps = []
    if clip_norm is not None:
        steps.append(optax.clip_by_global_norm(clip_norm))
    steps.append(optax.scale_by_adam(b1=b1, b2=b2))
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=_decayed))
    rate = learning_rate(peak_learning_rate, warmup_steps, total_steps, schedule, cooldown_steps)
    steps.append(optax.scale_by_learning_rate(rate))
    return optax.chain(*steps)


def _decayed(params):
    # By name, not by rank: scanned layers stack a norm's scale into a matrix.
    def decays(path, _):
        name = str(getattr(path[-1], "key", path[-1]))
        return not (name.endswith("bias") or name.endswith("scale"))

    return jax.tree_util.tree_map_with_path(decays, params)
