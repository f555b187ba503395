"""The few sizes that the decoder's programs are compiled for: a new length of a prompt or of a continuation finds one.

To compile takes longer than to draw a second of sound, so lengths are padded: to the whole sequence of the stage, three
quarters of it, a half, three eighths and so on. At most a third of a padded length is empty, a seventh on average, and
what is empty is masked.
"""

from typing import NamedTuple

from audiolm_jax.tokens.stages import Stage

_CACHE_MULTIPLE = 128
_PREFILL_MULTIPLE = 64


class Shape(NamedTuple):
    """Sizes of a call of the decoder.

    Attributes:
        prefill_tokens: P, tokens of a row that the prefill reads; compiled in.
        start: cache column of the first new token, in front of which the prompts lie; not compiled in.
        columns: C of the cache, of which those from `start` on are for new tokens; compiled in.
    """

    prefill_tokens: int
    start: int
    columns: int


def round_up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple


def size_for(length: int, whole: int, multiple: int = 1) -> int:
    """The least size that holds a length of at least 1.

    Sizes are `whole`, 3/4, 1/2, 3/8, 1/4 ... of it, and the same steps beyond it, each rounded up to a multiple.
    """
    upper = whole
    while upper < length:
        upper *= 2
    while upper >= 2 * length:
        upper = -(-upper // 2)
    three_quarters = -(-3 * upper // 4)
    return round_up(three_quarters if three_quarters >= length else upper, multiple)


def prefill_size(stage: Stage, tokens: int) -> int:
    """P for prompts of up to a number of tokens."""
    return size_for(max(tokens, 1), _whole_columns(stage), _PREFILL_MULTIPLE)


def cache_size(stage: Stage, tokens: int) -> int:
    """C for prompts and new tokens of up to a number of tokens together."""
    return size_for(max(tokens, 1), _whole_columns(stage), _CACHE_MULTIPLE)


def shape_of_its_own(stage: Stage, longest_prompt: int, longest_budget: int) -> Shape:
    """The shape of a call that no other call is to share a program with by more than chance.

    The first new token stands at a multiple where there is room for that, so that rows whose prompts differ by little
    have one shape.
    """
    start = min(round_up(longest_prompt, _PREFILL_MULTIPLE), _whole_columns(stage) - longest_budget)
    start = max(start, longest_prompt)
    return Shape(prefill_size(stage, start), start, cache_size(stage, start + longest_budget))


def _whole_columns(stage: Stage) -> int:
    return round_up(stage.max_length, _CACHE_MULTIPLE)
