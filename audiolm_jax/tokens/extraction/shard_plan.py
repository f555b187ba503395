"""Which inputs go into which shard. Everybody who plans the same inputs gets the same shards.

The inputs of all shards together may be millions, so they are written to one file in the output folder; what is kept in
memory, sent to workers or put into the graph of a pipeline is where in that file the inputs of a shard stand.
"""

import dataclasses
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from etils import epath

from audiolm_jax.errors import UserError
from audiolm_jax.files.object_storage import is_remote
from audiolm_jax.tokens.extraction.part_files import part_file
from audiolm_jax.tokens.manifest import ShardHeader, TokenizerSizes, inputs_path, read_header
from audiolm_jax.tokens.records import SPLITS, SourceFile

# Part of every shard's digest: raised when the records of the same inputs and tokenizers become others.
RECIPE_VERSION = 2
_FEWEST_PER_SHARD = 64
# Opening a folder costs a file handle for each shard, so large corpora get larger shards.
_MOST_SHARDS = 4096


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One unit of work.

    Attributes:
        folder: where the shard will stand.
        name: of the shard.
        split: of its inputs.
        num_inputs: how many there are.
        digest: of all that decides its content.
        plan_name: the file in the folder that lists the inputs.
        offset, num_bytes: where.
    """

    folder: str
    name: str
    split: str
    num_inputs: int
    digest: str
    plan_name: str
    offset: int
    num_bytes: int

    @property
    def path(self) -> epath.Path:
        """Of the shard."""
        return epath.Path(self.folder) / self.name

    def finished(self) -> ShardHeader | None:
        """What was written of the shard, if it is done and was made from the same inputs with the same tokenizers."""
        header = read_header(self.folder, self.name)
        if header is None or header.shard.digest != self.digest or not self.path.exists():
            return None
        return header

    def forget_unread(self) -> None:
        """Makes a shard unfinished again if some of its inputs could not be read the last time."""
        header = self.finished()
        if header is not None and header.num_unread:
            inputs_path(self.folder, self.name).unlink(missing_ok=True)

    def inputs(self) -> tuple[SourceFile, ...]:
        """The inputs.

        Raises:
            UserError: the list is not there.
        """
        path = epath.Path(self.folder) / self.plan_name
        try:
            with path.open("rb") as file:
                file.seek(self.offset)
                rows = json.loads(file.read(self.num_bytes))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); do all workers see the output folder?") from error
        return tuple(
            SourceFile(path, source, key, speaker, self.split, tuple(map(tuple, ranges)))
            for path, source, key, speaker, ranges in rows
        )


def default_files_per_shard(num_files: int) -> int:
    """Inputs of a shard, where the user does not say."""
    return max(_FEWEST_PER_SHARD, math.ceil(num_files / _MOST_SHARDS))


def plan_shards(
    folder: epath.Path, files: Sequence[SourceFile], sizes: TokenizerSizes, files_per_shard: int
) -> list[ShardPlan]:
    """Divides the inputs of each split, in their order, into shards.

    Args:
        folder: where the shards will stand; the list of inputs is written there.
        files: what to read, no two with one key; gone through once, so it may make its items when they are asked for.
        sizes: of the tokenizers.
        files_per_shard: inputs of one shard.

    Raises:
        OSError: the folder cannot be written.
    """
    made_by = json.dumps([RECIPE_VERSION, dataclasses.asdict(sizes)])
    rows: list[tuple[str, int, int, str, int, int]] = []
    content = hashlib.sha256()
    unnamed = folder / f".plan-{uuid.uuid4().hex}.jsonl"
    with part_file(unnamed) as temporary:
        with temporary.open("wb") as file:
            for split, index, part, sizes_bytes in _parts(files, files_per_shard):
                inputs = [(f.path, f.source, f.key, f.speaker, f.ranges) for f in part]
                line = json.dumps(inputs).encode()
                named = [(f.source, f.key, f.speaker, f.ranges) for f in part]
                digest = hashlib.sha256(json.dumps([made_by, split, named, sizes_bytes]).encode()).hexdigest()
                rows.append((split, index, len(part), digest, file.tell(), len(line)))
                content.update(line)
                file.write(line + b"\n")
    plan_name = f".plan-{content.hexdigest()[:16]}.jsonl"
    unnamed.replace(folder / plan_name)
    counts = {split: sum(row[0] == split for row in rows) for split in SPLITS}
    plans = [
        ShardPlan(
            folder=os.fspath(folder),
            name=f"{split}-{index:05d}-of-{counts[split]:05d}.array_record",
            split=split,
            num_inputs=num_inputs,
            digest=digest,
            plan_name=plan_name,
            offset=offset,
            num_bytes=num_bytes,
        )
        for split, index, num_inputs, digest, offset, num_bytes in rows
    ]
    return sorted(plans, key=lambda plan: (SPLITS.index(plan.split), plan.name))


def remove_plans(folder: epath.Path) -> None:
    """Removes the lists of inputs, when all shards are there."""
    for path in folder.glob(".plan-*.jsonl"):
        path.unlink(missing_ok=True)


def _parts(
    files: Iterable[SourceFile], files_per_shard: int
) -> Iterator[tuple[str, int, list[SourceFile], list[int]]]:
    """Split, number in the split, inputs, and size of each input's file in bytes, of every shard."""
    waiting: dict[str, list[SourceFile]] = {split: [] for split in SPLITS}
    waiting_bytes: dict[str, list[int]] = {split: [] for split in SPLITS}
    numbers = dict.fromkeys(SPLITS, 0)
    last_path, last_bytes = "", -1
    for file in files:
        if file.path != last_path:
            last_path, last_bytes = file.path, _file_bytes(file.path)
        waiting[file.split].append(file)
        waiting_bytes[file.split].append(last_bytes)
        if len(waiting[file.split]) == files_per_shard:
            yield file.split, numbers[file.split], waiting[file.split], waiting_bytes[file.split]
            waiting[file.split], waiting_bytes[file.split] = [], []
            numbers[file.split] += 1
    for split in SPLITS:
        if waiting[split]:
            yield split, numbers[split], waiting[split], waiting_bytes[split]


def _file_bytes(path: str) -> int:
    """Size of a file; -1 if it has just vanished, or where asking costs a request over the network."""
    try:
        return -1 if is_remote(path) else Path(path).stat().st_size
    except OSError:
        return -1
