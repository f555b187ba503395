"""A corpus to a folder of token records: plan the shards, let an engine make those that are missing, join them.

The engine is a function: `beam_engine.run_on_beam` gives shards to the workers of any Beam runner,
`device_engine.run_on_devices` to the accelerators of the processes of a JAX job. Both call `shard_work.work_shard`.
Started again after a stop at any moment, a job keeps the shards that are done; a folder without manifest.json is not
finished.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence

from etils import epath

from audiolm_jax.errors import UserError
from audiolm_jax.files.object_storage import check_access
from audiolm_jax.tokens.extraction.job_progress import JobProgress
from audiolm_jax.tokens.extraction.part_files import remove_dead_parts
from audiolm_jax.tokens.extraction.shard_plan import ShardPlan, default_files_per_shard, plan_shards, remove_plans
from audiolm_jax.tokens.extraction.shard_work import cannot_write
from audiolm_jax.tokens.manifest import MANIFEST_NAME, InputEntry, TokenizerSizes, write_manifest
from audiolm_jax.tokens.records import SourceFile
from audiolm_jax.tokens.split import Split

# Makes the shards that are missing; returns when all of them are there, or raises.
Engine = Callable[[Sequence[ShardPlan]], None]


@dataclasses.dataclass(frozen=True)
class JobFigures:
    """What a job did.

    Attributes:
        records, hours: in the whole folder.
        left_out: inputs of the whole corpus that did not become records.
        shards: of the whole folder.
        kept_shards: those that were there when the job began.
        worked_seconds: of audio in the shards that were made now.
        wall_seconds: that this took, planning and joining included.
    """

    records: int
    hours: float
    left_out: int
    shards: int
    kept_shards: int
    worked_seconds: float
    wall_seconds: float

    @property
    def times_real_time(self) -> float:
        """Seconds of audio for each second of the job."""
        return self.worked_seconds / self.wall_seconds

    def to_json(self) -> dict[str, float]:
        """For `--json`."""
        return {**dataclasses.asdict(self), "times_real_time": self.times_real_time}


def extract(
    files: Sequence[SourceFile],
    output_dir: str | os.PathLike,
    sizes: TokenizerSizes,
    gate: dict[str, float],
    engine: Engine,
    files_per_shard: int = 0,
    left_out: Sequence[InputEntry] = (),
    joins: bool = True,
    split: Split | None = None,
) -> JobFigures:
    """Makes the shards that are missing, and then the manifest.

    Args:
        files: what to read, no two with one key, the parts of a file one after the other. Those that cannot be read
            are listed with the reason.
        output_dir: where the records go, a folder that all workers see; may be on object storage (gs://).
        sizes: of the tokenizers.
        gate: figures of the codec that are kept in the manifest.
        engine: makes shards.
        files_per_shard: inputs of a shard, the unit of work and of resuming; 0 for 64, more for large corpora.
        left_out: inputs of the corpus of which it is known already that they cannot be used.
        joins: whether this process clears up before, tells the progress, and writes the manifest; one of a job does.
        split: of the corpus, which is kept in the manifest.

    Raises:
        UserError: there is nothing to read, nothing could be read, or the output folder refuses to be written.
    """
    if files_per_shard < 0:
        raise UserError(f"files_per_shard must not be negative, got {files_per_shard}")
    if not len(files):
        raise UserError("there are no audio files to tokenise")
    check_access(output_dir)
    started = time.monotonic()
    folder = epath.Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plans = plan_shards(folder, files, sizes, files_per_shard or default_files_per_shard(len(files)))
        missing = _prepare(folder, plans, joins)
    except OSError as error:
        raise cannot_write(os.fspath(folder), error) from error
    if missing:
        with JobProgress(missing, shown=joins):
            engine(missing)
    headers = [plan.finished() for plan in plans]
    if not all(headers):
        absent = next(plan.name for plan, header in zip(plans, headers, strict=True) if header is None)
        raise UserError(f"{folder / absent} was not written; do all workers see that folder? Start again to go on")
    shards = [header.shard for header in headers]
    num_records = sum(shard.num_records for shard in shards)
    if not num_records:
        if joins:
            remove_plans(folder)
        raise UserError(f"none of the {len(files)} files could be tokenised; {folder}/*.jsonl say why")
    if joins:
        try:
            write_manifest(folder, sizes, gate, [plan.name for plan in plans], left_out, split)
            remove_plans(folder)
        except OSError as error:
            raise cannot_write(os.fspath(folder), error) from error
        _tell_unread(sum(header.num_unread for header in headers))
    worked = {plan.name for plan in missing}
    figures = JobFigures(
        records=num_records,
        hours=sum(shard.seconds for shard in shards) / 3600,
        left_out=len(left_out) + sum(shard.num_inputs for shard in shards) - num_records,
        shards=len(shards),
        kept_shards=len(plans) - len(missing),
        worked_seconds=sum(shard.seconds for shard in shards if shard.name in worked),
        wall_seconds=time.monotonic() - started,
    )
    if joins:
        _tell(figures)
    return figures


def _prepare(folder: epath.Path, plans: Sequence[ShardPlan], joins: bool) -> list[ShardPlan]:
    """Clears up what a stopped job left, and finds the shards that are missing."""
    if joins:
        if dead := remove_dead_parts(folder):
            shown = ", ".join(dead[:3]) + (", ..." if len(dead) > 3 else "")
            print(f"tokenize: removed what workers that died had begun: {shown}", file=sys.stderr)
        for plan in plans:
            plan.forget_unread()
    missing = [plan for plan in plans if plan.finished() is None]
    if missing:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
    if joins:
        print(f"tokenize: {len(plans) - len(missing)} of {len(plans)} shards are already done", file=sys.stderr)
    return missing


def _tell_unread(num_unread: int) -> None:
    if num_unread:
        print(f"tokenize: {num_unread} files could not be read; run the command again to try them", file=sys.stderr)


def _tell(figures: JobFigures) -> None:
    worked = figures.worked_seconds > 0
    speed = f"{figures.times_real_time:.1f} times real time" if worked else "nothing left to do"
    print(
        f"tokenize: {figures.records} records, {figures.hours:.2f} h, {figures.left_out} files left out, {speed}",
        file=sys.stderr,
    )
