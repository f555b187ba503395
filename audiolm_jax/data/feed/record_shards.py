"""The token records of one split of a folder, by number, read from ArrayRecord shards that are opened when needed."""

import collections
import os
import resource
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from audiolm_jax.errors import UserError, first_line
from audiolm_jax.tokens.manifest import ShardEntry
from audiolm_jax.tokens.records import TokenRecord, decode_record

# No read-ahead: an example needs one record from a random place.
_READER_OPTIONS = "readahead_buffer_size:0"
_READER_BUFFER_BYTES = 1 << 15
_MAX_OPEN_SHARDS = 4096

_BRING_BACK = "bring the file back and start again: the run goes on from its last checkpoint"


class RecordShards(Sequence[TokenRecord]):
    """Record i is the i-th of the shards read one after the other.

    Grain's own source opens every shard to count its records and keeps each one open; a corpus of millions of records
    has more shards than a process may have open files. Here the manifest tells the counts, and the shards used last
    stay open. Safe to use from several threads.
    """

    def __init__(self, folder: str | os.PathLike, shards: Sequence[ShardEntry]):
        """Opens nothing yet.

        Args:
            folder: where the shards are.
            shards: in order; those that hold records.

        Raises:
            UserError: a shard is not in the folder.
        """
        self._paths = [str(Path(folder) / shard.name) for shard in shards]
        self._ends = np.cumsum([shard.num_records for shard in shards])
        self._readers: collections.OrderedDict[int, ArrayRecordReader] = collections.OrderedDict()
        self._lock = threading.Lock()
        # Half of the files this process may open, for others want some too.
        self._max_open = min(_MAX_OPEN_SHARDS, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        there = set(os.listdir(folder)) if shards else set()
        missing = [shard.name for shard in shards if shard.name not in there]
        if missing:
            others = f" and {len(missing) - 1} more of its shards" if len(missing) > 1 else ""
            raise UserError(f"{folder} lacks {missing[0]}{others}; copy the folder of tokens again")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> TokenRecord:
        """A record.

        Raises:
            IndexError: there is no such record.
            UserError: its shard has vanished, is damaged, or is not the one that the manifest lists.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        position = index - (int(self._ends[shard - 1]) if shard else 0)
        where = f"record {position} of {self._paths[shard]}"
        reader = self._reader(shard)
        try:
            data = reader.read([position])[0]
        except Exception as error:  # the reader raises bare RuntimeErrors and ValueErrors with a line of its own
            raise UserError(f"cannot read {where} ({first_line(error)[:200]}); {_BRING_BACK}") from error
        try:
            return decode_record(data)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            reader = self._readers.get(shard)
            if reader is None:
                reader = self._readers[shard] = self._open(shard)
                if len(self._readers) > self._max_open:
                    # Dropped, not closed: another thread may be reading from it.
                    self._readers.popitem(last=False)
            self._readers.move_to_end(shard)
        return reader

    def _open(self, shard: int) -> ArrayRecordReader:
        path = self._paths[shard]
        if not os.path.exists(path):  # the reader takes it for an empty one
            raise UserError(f"{path} is gone; {_BRING_BACK}")
        try:
            reader = ArrayRecordReader(path, options=_READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER_BYTES)
            found = reader.num_records()
        except Exception as error:  # as above
            raise UserError(f"cannot open {path} ({' '.join(str(error).split())[:200]}); {_BRING_BACK}") from error
        listed = int(self._ends[shard] - (self._ends[shard - 1] if shard else 0))
        if found != listed:
            raise UserError(f"{path} is damaged or another one: it holds {found} records, the manifest lists {listed}; "
                            "copy it again, or run `audiolm tokenize` again")
        return reader
