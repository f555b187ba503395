"""Rows to calls of the decoder, each of a fixed shape.

There are two ways. A single request is drawn in calls of one shape, so that each stage compiles two programs however
many windows it has. Where many requests are drawn and each is to give the same to the last bit whatever the others
are, the shape of a call follows from each of its rows alone.
"""

import dataclasses

from audiolm_jax.generation.plan import Row
from audiolm_jax.generation.shapes import Shape, cache_size, prefill_size, shape_of_its_own, size_for
from audiolm_jax.tokens.stages import Stage

# Rows of a call for which the number of rows has few sizes; of more, the sizes go on in the same steps.
MOST_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Call:
    """Rows that are drawn together.

    Attributes:
        rows: at least one, all of one turn.
        num_rows: rows of the call, empty ones included.
        shape: its sizes.
    """

    rows: list[Row]
    num_rows: int
    shape: Shape

    @property
    def budget(self) -> int:
        """Steps of the call: ids of its longest row."""
        return max(row.budget for row in self.rows)


def calls_of_one_shape(stage: Stage, turns: list[list[Row]], most_rows: int | None = None) -> list[Call]:
    """Calls that share their programs, although their prompts differ and the last draws less.

    Args:
        stage: what is drawn.
        turns: rows that may be drawn together, those of earlier turns first.
        most_rows: of a call; None for all of a turn.
    """
    groups = [group for rows in turns if rows for group in _even_groups(rows, most_rows or len(rows))]
    if not groups:
        return []
    starts = [max(row.longest_prompt for row in group) for group in groups]
    ends = [start + max(row.longest_budget for row in group) for start, group in zip(starts, groups, strict=True)]
    num_rows = size_for(max(map(len, groups)), MOST_ROWS)
    prefill_tokens, columns = prefill_size(stage, max(starts)), cache_size(stage, max(ends))
    return [
        Call(group, num_rows, Shape(prefill_tokens, start, columns))
        for group, start in zip(groups, starts, strict=True)
    ]


def calls_by_shape(stage: Stage, turns: list[list[Row]], num_rows: int) -> list[Call]:
    """Calls of `num_rows` rows whose shapes follow from each row alone: then not even rounding depends on company."""
    calls = []
    for rows in turns:
        by_shape: dict[Shape, list[Row]] = {}
        # Those that draw about as much stay together, because a call ends with its longest row.
        for row in sorted(rows, key=lambda row: -row.budget):
            by_shape.setdefault(shape_of_its_own(stage, row.longest_prompt, row.longest_budget), []).append(row)
        for shape, same in sorted(by_shape.items()):
            calls += [Call(same[i : i + num_rows], num_rows, shape) for i in range(0, len(same), num_rows)]
    return calls


def _even_groups(rows: list[Row], most_rows: int) -> list[list[Row]]:
    """Rows in the fewest groups, all of about one size."""
    size = -(-len(rows) // -(-len(rows) // most_rows))
    return [rows[i : i + size] for i in range(0, len(rows), size)]
