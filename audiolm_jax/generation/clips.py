"""What an acoustic stage in training sounds like: held-out crops, as they are and continued by the stage."""

import dataclasses
import functools

import jax
import numpy as np

from audiolm_jax.bundle import Bundle
from audiolm_jax.generation.decode import StageDecoder
from audiolm_jax.generation.sampling import SamplingSettings
from audiolm_jax.lm.learner import StageLearner
from audiolm_jax.tokens.layout import PAD
from audiolm_jax.training.loop import Clip, Feed
from audiolm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class StageClips:
    """Clips of a coarse or fine stage for TensorBoard.

    A held-out crop gives the prefix and the first `prompt_share` of the target; the stage draws the rest, and the
    codec of the tokenizers decodes both that and the true crop: from the coarse levels alone in the coarse stage.

    Attributes:
        tokenizers: bundle with the codec that made the tokens; None for no clips.
        num_clips: crops.
        prompt_share: of the target's frames that are given.
        settings: how to draw.
    """

    tokenizers: str | None = None
    num_clips: int = 2
    prompt_share: float = 0.3
    settings: SamplingSettings = SamplingSettings(temperature=0.8)

    @functools.cached_property
    def _bundle(self) -> Bundle:
        return Bundle.load(self.tokenizers)

    def __call__(self, learner: StageLearner, feed: Feed, state: TrainState, rng: jax.Array) -> list[Clip]:
        """True and drawn versions of the first held-out crops."""
        batch = None if self.tokenizers is None else next(iter(feed.eval_batches()), None)
        if batch is None:
            return []
        stage = learner.stage
        # Rows without weight are padding; a crop of fewer than two frames has nothing to continue.
        levels = stage.target.num_levels
        rows = [row for row in range(len(batch["ids"])) if batch["loss_weights"][row].sum() >= 2 * levels]
        rows = [row for row in rows if batch["example_weights"][row] > 0][: self.num_clips]
        if not rows:
            return []
        wholes, prompts, budgets, positions = [], [], [], []
        for row in rows:
            ids, weights = batch["ids"][row], batch["loss_weights"][row]
            whole = ids[ids != PAD]
            num_frames = int(weights.sum()) // levels
            given = max(1, int(num_frames * self.prompt_share)) * levels
            wholes.append(whole)
            prompts.append(whole[: int(np.argmax(weights > 0)) + given])
            budgets.append(num_frames * levels - given)
            positions.append(given)
        made = StageDecoder(learner.model, state.params).generate(
            prompts,
            np.array(budgets),
            jax.random.split(rng, len(rows)),
            self.settings,
            first_positions=np.array(positions, np.int32),
        )
        clips = []
        for index, (whole, prompt) in enumerate(zip(wholes, prompts, strict=True)):
            drawn = np.concatenate([prompt, made.ids[index, : budgets[index]]])
            for name, ids in (("true", whole), ("drawn", drawn)):
                tokens = stage.layout.split(ids).acoustic[None]
                samples = np.asarray(self._bundle.codec.decode(self._bundle.codec_params, tokens))[0]
                clips.append(Clip(f"{index}/{name}", samples, self._bundle.codec.sample_rate_hz))
        return clips
