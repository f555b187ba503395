"""Training from seqio: the batches of a feed, made of the examples of a registered Task or Mixture.

TensorFlow and seqio are imported when the first batch is asked for, so that a configuration can be looked at, and a
training compiled, without them.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from audiolm_jax.data.corpora.corpora import Corpus
from audiolm_jax.data.feed.batches import (
    Batch,
    BatchShapes,
    Cursor,
    all_rows,
    batch_indices,
    filled,
    initial_cursor,
)
from audiolm_jax.data.feed.feed import AudioFeed, TokenFeed
from audiolm_jax.errors import UserError
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.records import TokenRecord
from audiolm_jax.tokens.split import Split

if TYPE_CHECKING:
    from audiolm_jax.data.seqio.pipeline import MixedTasks


@dataclasses.dataclass(frozen=True)
class SeqioFeed:
    """Batches of a seqio Task or Mixture, in the schema of another feed.

    The Tasks are mixed by the Mixture's rates, in blocks of 1024 examples that hold them exactly. Where all of them
    stand on an `IndexedSource`, the batches are functions of (seed, global index) as those of any feed. Others are
    read on from the start of a pass after a stop, which is told on stderr; then the batches of a resumed run are others
    than those of a straight one.

    Attributes:
        like: the feed whose batches these are like: their schema, size and seed, the threads that read ahead and the
            number of held-out examples. Its folders, if it has any, are registered first, see `register_folders`.
        mixture: name of the Task or Mixture.
        modules: that register it, imported after the folders are registered: names of modules, or Python files.
        cache_dirs: folders that seqio_cache_tasks wrote to; Tasks that can be cached are read from there. None of them:
            nothing is read from caches.
    """

    like: AudioFeed | TokenFeed
    mixture: str
    modules: tuple[str, ...] = ()
    cache_dirs: tuple[str, ...] = ()

    @functools.cached_property
    def mixed(self) -> "MixedTasks":
        """The Tasks by name, after everything is registered.

        Raises:
            UserError: a folder or a module cannot be read, there is no such Task or Mixture, or what is registered or
                named to be read is not part of it.
        """
        import seqio

        from audiolm_jax.data.seqio import audio_tasks, pipeline, registration, tasks

        folders_mixture, folders_tasks = registration.register_folders(self.like) if self._has_folders else ("", ())
        registration.import_modules(self.modules)
        found, rates = registration.find_tasks(self.mixture)
        if self._has_folders and not {task.name for task in found} & set(folders_tasks):
            raise UserError(f"the seqio Mixture {self.mixture} reads nothing of --data; leave --data out, or give "
                            f"--set SEQIO_MIXTURE={folders_mixture}, which reads it")
        if self.cache_dirs and not any(task.supports_caching for task in found):
            raise UserError(f"no Task of the seqio Mixture {self.mixture} can be cached, for none has a "
                            "CacheDatasetPlaceholder; leave SEQIO_CACHE out")
        seqio.add_global_cache_dirs(self.cache_dirs)
        if isinstance(self.like, TokenFeed):
            lengths = tasks.task_feature_lengths_of(self.like.stage)
            converter = tasks.StageFeatureConverter(self.like.stage)
        else:
            lengths, converter = {"samples": self.like.crop_samples}, audio_tasks.AudioFeatureConverter()
        return pipeline.MixedTasks(
            self.mixture, found, rates, lengths, converter, self.like.seed, bool(self.cache_dirs), self.like.num_threads
        )

    @property
    def _has_folders(self) -> bool:
        return bool(self.like.folders if isinstance(self.like, TokenFeed) else self.like.corpora)

    @property
    def batch_size(self) -> int:
        """B of the global batch."""
        return self.like.batch_size

    @property
    def sample_rate_hz(self) -> int | None:
        """Of samples; None for tokens."""
        return getattr(self.like, "sample_rate_hz", None)

    @property
    def crop_samples(self) -> int | None:
        """Of a crop of samples; None for tokens."""
        return getattr(self.like, "crop_samples", None)

    def _known(self, name: str) -> list:
        """What the Tasks' sources say of themselves, None for those that do not."""
        return [getattr(getattr(task.source, "examples", None), name, None) for task in self.mixed.tasks]

    @property
    def splits(self) -> list[Split | None]:
        """What each Task holds out; None for one that does not tell."""
        return self._known("split")

    @property
    def corpora(self) -> list[Corpus]:
        """Those that Tasks stand on."""
        return [corpus for corpus in self._known("corpus") if corpus is not None]

    @property
    def tokenizers(self) -> TokenizerSizes | None:
        """Who made the tokens; None where a Task does not tell.

        Raises:
            UserError: they were made by different ones.
        """
        known = self._known("tokenizers")
        if None in known:
            return None
        if any(tokenizers != known[0] for tokenizers in known):
            raise UserError(f"the Tasks of the seqio Mixture {self.mixture} give tokens of different tokenizers")
        return known[0]

    def first_records(self, count: int) -> Iterator[TokenRecord]:
        """The token records that training begins with, at most `count` of each Task that reads such records."""
        for task in self.mixed.tasks:
            if hasattr(task.source, "examples") and hasattr(task.source.examples, "first_records"):
                yield from task.source.examples.first_records(count)

    def batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global training batch."""
        return self.like.batch_shapes()

    def eval_batch_shapes(self) -> BatchShapes:
        """Shapes and types of a whole global held-out batch."""
        return self.like.eval_batch_shapes()

    def initial_cursor(self) -> Cursor:
        """The cursor before the first batch."""
        return initial_cursor()

    def batches(self, cursor: Cursor, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Cursor]]:
        """`rows` (None: all) of the global batches from a cursor on, without end, each with the cursor after it."""
        rows, start = all_rows(self.batch_size, rows), cursor["examples"]
        if start and rows[0] == 0:
            self._tell_what_begins_again(start)
        for count, batch in enumerate(self.mixed.training(start, self.batch_size, rows), start=1):
            yield batch, {"examples": start + count * self.batch_size}

    def _tell_what_begins_again(self, start: int) -> None:
        without = [task.name for task, has in zip(self.mixed.tasks, self.mixed.has_index, strict=True) if not has]
        if without:
            print(f"seqio: {', '.join(without)}: no index, so read on from the start of a pass after {start} examples "
                  "of the training, not from where it was stopped", file=sys.stderr)

    def example_names(self, cursor: Cursor) -> list[str]:
        """For people: what the global batch after a cursor holds, as far as the Tasks tell."""
        names = []
        for index in batch_indices(cursor, self.batch_size):
            number, ordinal = self.mixed.order.slot(index)
            task = self.mixed.tasks[number]
            of_it = task.source.examples.name(ordinal) if self.mixed.has_index[number] else "an example without index"
            names.append(f"{task.name}: {of_it}")
        return names

    def eval_batches(self, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Every held-out example once, Task by Task; `example_weights` float32[B] is 0 in the padding at the end."""
        rows = all_rows(self.batch_size, rows)
        most = getattr(self.like, "max_eval_examples", None)
        for examples in self.mixed.heldout(most, self.batch_size, rows):
            yield filled(examples, self.eval_batch_shapes(), len(rows))
