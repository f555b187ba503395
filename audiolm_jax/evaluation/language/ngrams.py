"""Unigrams and bigrams of a stage's target tokens: what counting alone would reach.

Levels are counted apart. The token before a token is that of the frame before it at the same level; a crop's first
frame has none. For the semantic stage, whose repeats are collapsed, that is simply the token before.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiolm_jax.data.feed.examples import evaluation_crops, prefix_and_target
from audiolm_jax.evaluation.sound.code_usage import entropy_nats, unbiased_entropy_nats
from audiolm_jax.lm.stage_model import legal_ids
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.stages import Stage

# Stands for the token before the first.
NOTHING = -1


class LevelTokens(NamedTuple):
    """Every target token of one level: int32[N] each.

    `current` and `previous` are rows of the stage's legal ids (see `lm.stage_model`), `previous` is NOTHING at the
    beginning of a crop; `owner` is the index of the token's record.
    """

    previous: np.ndarray
    current: np.ndarray
    owner: np.ndarray


def level_tokens(stage: Stage, records: Sequence[TokenRecord]) -> list[LevelTokens]:
    """The target tokens of every level, in the crops that `perplexity.stage_batches` makes of the same records."""
    legal, levels = legal_ids(stage), stage.target.num_levels
    before, after, owners = [], [], []
    for owner, record in enumerate(records):
        for crop in evaluation_crops(record, stage):
            target = prefix_and_target(record, stage, crop)[1]
            frames = legal.row_of(np.arange(len(target)) % levels, target).reshape(-1, levels)
            after.append(frames)
            before.append(np.concatenate([np.full((1, levels), NOTHING), frames[:-1]])[: len(frames)])
            owners.append(np.full(len(frames), owner))
    nothing = [np.zeros((0, levels), np.int32)]
    previous, current = (np.concatenate([*parts, *nothing]).astype(np.int32) for parts in (before, after))
    owner = np.concatenate([*owners, np.zeros(0, np.int32)]).astype(np.int32)
    return [LevelTokens(previous[:, level], current[:, level], owner) for level in range(levels)]


@dataclasses.dataclass(frozen=True, eq=False)
class Ngrams:
    """Counts of the training tokens of one level with N ids.

    Attributes:
        counts: int64[N] of every id.
        legal: bool[N], ids that may stand here.
        pairs: int64[P], previous * N + current of every pair that occurs, ascending.
        pair_counts: int64[P].
        context_counts: int64[N], tokens that follow each id.
        context_types: int64[N], different ids that follow each id.
    """

    counts: np.ndarray
    legal: np.ndarray
    pairs: np.ndarray
    pair_counts: np.ndarray
    context_counts: np.ndarray
    context_types: np.ndarray

    @classmethod
    def count(cls, tokens: LevelTokens, legal: np.ndarray) -> "Ngrams":
        """Counts tokens whose ids are rows of `legal`, bool[N]."""
        size = len(legal)
        follows = tokens.previous != NOTHING
        keys = tokens.previous[follows].astype(np.int64) * size + tokens.current[follows]
        pairs, pair_counts = np.unique(keys, return_counts=True)
        return cls(
            counts=np.bincount(tokens.current, minlength=size),
            legal=np.asarray(legal),
            pairs=pairs,
            pair_counts=pair_counts,
            context_counts=np.bincount(pairs // size, weights=pair_counts, minlength=size).astype(np.int64),
            context_types=np.bincount(pairs // size, minlength=size),
        )

    def unigram_nats(self, tokens: LevelTokens) -> np.ndarray:
        """-log p(token) with one added to the count of every legal id: float64[M] of other tokens of the level."""
        return -np.log(self._unigram_shares()[tokens.current])

    def bigram_nats(self, tokens: LevelTokens) -> np.ndarray:
        """-log p(token | token before), float64[M], by Witten and Bell's interpolation.

        p(w | v) = (count(v, w) + types(v) p(w)) / (count(v) + types(v)), with the unigram p(w) of `unigram_nats`,
        count(v) the tokens that follow v and types(v) how many different ones do. After nothing, and after an id that
        training never had, that is p(w) itself.
        """
        size = len(self.counts)
        unigram = self._unigram_shares()[tokens.current]
        known = tokens.previous != NOTHING
        context = np.where(known, tokens.previous, 0)
        keys = context.astype(np.int64) * size + tokens.current
        place = np.minimum(np.searchsorted(self.pairs, keys), max(len(self.pairs) - 1, 0))
        together = np.zeros(len(keys))
        if len(self.pairs):
            together = np.where(known & (self.pairs[place] == keys), self.pair_counts[place], 0)
        types = np.where(known, self.context_types[context], 0)
        total = np.where(known, self.context_counts[context], 0) + types
        return -np.log(np.where(total > 0, (together + types * unigram) / np.maximum(total, 1), unigram))

    def _unigram_shares(self) -> np.ndarray:
        smoothed = (self.counts + 1.0) * self.legal
        return smoothed / smoothed.sum()


def own_unigram_nats(tokens: LevelTokens, legal: np.ndarray) -> np.ndarray:
    """-log of every token's share among these tokens, raised by what their small number hides: float64[M].

    Its mean is the entropy by `code_usage.unbiased_entropy_nats` of the codes in `legal`, bool[N].
    """
    counts = np.bincount(tokens.current, minlength=len(legal))
    hidden = unbiased_entropy_nats(counts[legal]) - float(entropy_nats(counts[legal]))
    return hidden - np.log(counts[tokens.current] / max(len(tokens.current), 1))
