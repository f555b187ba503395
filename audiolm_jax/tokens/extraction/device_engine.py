"""Shards on the accelerators of a JAX job: every process, on every host of a pod, works on those of its own host.

No array is ever shared between processes or devices. Each local device has its own copy of the weights and works on
shards of its own, so no device waits for another, a recording meets the same program as in a job of one worker, and
its tokens are the same.

Nobody hands out the shards. Process p of n begins with the shards p, p + n, p + 2n ... and then goes on with those
of the others that are neither finished nor being worked on, which the locked part of a shard tells. So a slow host is
helped and a process that died is replaced without a message between them; the lock goes with its process, nothing is
left that must be cleared. Where there are no locks, as on object storage, two processes may at the end make the same
shard: they write the same bytes.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax

from audiolm_jax.errors import UserError
from audiolm_jax.tokens.extraction.interrupt import ends_in_order
from audiolm_jax.tokens.extraction.part_files import is_being_written
from audiolm_jax.tokens.extraction.shard_plan import ShardPlan
from audiolm_jax.tokens.extraction.shard_work import WorkSettings, WorkStopped, work_shard
from audiolm_jax.tokens.manifest import TokenizerSizes
from audiolm_jax.tokens.tokenizers import Tokenizers

# Shards that each device works on at once: while the host writes or waits for one, the device computes on another.
_SHARDS_PER_DEVICE = 2
_POLL_SECONDS = 1.0


def run_on_devices(
    plans: Sequence[ShardPlan],
    tokenizers: Tokenizers,
    sizes: TokenizerSizes,
    settings: WorkSettings,
    process_index: int | None = None,
    process_count: int | None = None,
) -> None:
    """Makes shards on the local devices until all of them are there; the engine of `extract.extract`.

    Args:
        plans: of all shards that are missing, the same list or nearly so in all processes.
        tokenizers: their weights are copied to every local device.
        sizes: of the tokenizers.
        settings: of the work on a shard.
        process_index, process_count: this process among those of the job; None for those of JAX.

    Raises:
        UserError: a shard could not be made, or the processes do not see the same input.
        KeyboardInterrupt: Ctrl-C ended the work of this process.
    """
    process_index = jax.process_index() if process_index is None else process_index
    process_count = jax.process_count() if process_count is None else process_count
    queue = ShardQueue(plans, process_index, process_count)

    def work(on_device: Tokenizers) -> None:
        try:
            while (plan := queue.take()) is not None:
                work_shard(plan, on_device, sizes, settings, queue.is_stopping)
                queue.done(plan)
        except WorkStopped:
            pass  # for what ended the job, which is told where that happened
        except BaseException:
            queue.stop()
            raise

    copies = [tokenizers.on_device(device) for device in jax.local_devices()]
    workers = copies * _SHARDS_PER_DEVICE
    with ThreadPoolExecutor(len(workers), thread_name_prefix="device") as pool:
        futures = [pool.submit(work, on_device) for on_device in workers]
        try:
            with ends_in_order(queue.stop):
                for future in futures:
                    future.result()
        finally:
            queue.stop()


class ShardQueue:
    """The shards that are left to do, in the order in which this process wants them; for its threads."""

    def __init__(self, plans: Sequence[ShardPlan], process_index: int, process_count: int):
        places = range(len(plans))
        # By the place that the name tells, and not by that in the list, which is shorter for who starts later.
        mine_first = sorted(places, key=lambda place: ((_number(plans[place]) - process_index) % process_count, place))
        self._waiting = [plans[place] for place in mine_first]
        self._tried: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def take(self) -> ShardPlan | None:
        """The next shard that nobody has made or is making; waits while others still are. None when all are there.

        Raises:
            UserError: a shard that this process made was replaced by one of another input.
        """
        while not self._stopped.is_set():
            with self._lock:
                plan = self._next()
                if plan is not None or not self._waiting:
                    return plan
            self._stopped.wait(_POLL_SECONDS)
        return None

    def done(self, plan: ShardPlan) -> None:
        """Says that a shard that was taken is made."""
        if plan.finished() is None:
            raise UserError(
                f"{plan.path} is not what was written: the processes do not read the same input; start them again "
                "when it no longer changes"
            )

    def stop(self) -> None:
        """Lets every thread end after the file that it is at; what it has of its shard is given up."""
        self._stopped.set()

    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def _next(self) -> ShardPlan | None:
        """A shard to make now; those that others are making stay in the list, to be looked at again."""
        for plan in list(self._waiting):
            if plan.name in self._tried or plan.finished() is not None:
                self._waiting.remove(plan)
            elif not is_being_written(plan.path):
                self._waiting.remove(plan)
                self._tried.add(plan.name)
                return plan
        return None


def _number(plan: ShardPlan) -> int:
    """The number in `train-00012-of-00040.array_record`."""
    return int(plan.name.split("-")[1])
