"""Draws the planned rows of a stage, call after call."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from audiolm_jax.generation.batching import Call, calls_by_shape, calls_of_one_shape
from audiolm_jax.generation.decode import Continuations, StageDecoder
from audiolm_jax.generation.plan import Row
from audiolm_jax.generation.sampling import SamplingSettings
from audiolm_jax.tokens.stages import Stage

# (tokens drawn so far, tokens to draw); the rows of a batch count once
OnTokens = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class StageSampler:
    """A stage ready to draw.

    Attributes:
        decoder: the stage's model.
        settings: how to draw.
        keys: [N] keys of the N samples, from `sampling.row_keys`.
        on_tokens: told of the progress.
        fixed_rows: rows of every call of the decoder, empty ones included, in calls whose shapes follow from each
            sample alone: then not even rounding depends on which samples are drawn together. None for as many rows
            as there are samples, which is faster for a single one.
    """

    decoder: StageDecoder
    settings: SamplingSettings
    keys: jax.Array
    on_tokens: OnTokens
    fixed_rows: int | None = None

    @property
    def stage(self) -> Stage:
        """The stage's description."""
        return self.decoder.model.stage

    def draw(
        self,
        turns: list[list[Row]],
        prompt_ids: Callable[[Row], np.ndarray],
        keep: Callable[[Row, np.ndarray], None],
        most_rows: int | None = None,
    ) -> None:
        """Draws all rows, turn after turn; a sample that has ended with EOS draws nothing in the turns that are left.

        Args:
            turns: rows that may be drawn together, those of earlier turns first.
            prompt_ids: ids of a row's prompt, asked for when all earlier turns are done.
            keep: is given what a row has drawn, a final EOS left out.
            most_rows: of a call, where `fixed_rows` does not say how many; None for all samples at once.
        """
        if self.fixed_rows is None:
            calls = calls_of_one_shape(self.stage, turns, most_rows)
        else:
            calls = calls_by_shape(self.stage, turns, self.fixed_rows)
        if not calls:
            return
        drawn, to_draw = 0, sum(call.budget for call in calls)
        ended = np.zeros(len(self.keys), bool)
        for call in calls:
            rows = [row for row in call.rows if not ended[row.sample]]
            if rows:
                made = self._draw_rows(
                    rows, call, prompt_ids, lambda step, before=drawn: self.on_tokens(before + step, to_draw)
                )
                for index, row in enumerate(rows):
                    keep(row, made.ids[index, : made.lengths[index]])
                    ended[row.sample] |= made.ended[index]
            drawn += call.budget
        self.on_tokens(to_draw, to_draw)

    def _draw_rows(
        self, rows: list[Row], call: Call, prompt_ids: Callable[[Row], np.ndarray], on_progress: Callable[[int], None]
    ) -> Continuations:
        """One call of the decoder for rows of `call`, and empty rows that fill its shape."""
        empty = call.num_rows - len(rows)
        filled = rows + rows[:1] * empty
        prompts = [prompt_ids(row) for row in rows]
        may_end = rows[0].eos_from is not None
        return self.decoder.generate(
            prompts + prompts[:1] * empty,
            np.array([row.budget for row in rows] + [0] * empty),
            self.keys[np.array([row.sample for row in filled])],
            self.settings,
            first_positions=np.array([row.position for row in filled], np.int32),
            eos_from=np.array([row.eos_from for row in filled], np.int32) if may_end else None,
            on_progress=on_progress,
            shape=call.shape,
        )
