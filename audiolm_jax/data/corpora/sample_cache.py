"""Recordings and crops of them as int16 at one rate: decoded once and kept, or read part by part."""

import dataclasses
import functools
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audiolm_jax.audio import read_header
from audiolm_jax.data.corpora.utterances import Utterance, UtteranceList, read_utterance
from audiolm_jax.data.corpora.voice_activity import narrowed, num_samples_of
from audiolm_jax.data.feed.crops import crop_bounds, resampled_length, source_part
from audiolm_jax.errors import UserError, first_line

# Headers that are kept: some 300 bytes each.
_MAX_HEADERS = 1 << 17
# Headers that are read at once, and so many before it is asked whether they are enough.
_NUM_THREADS = 16
_HEADERS_PER_CHUNK = 512


class SampleCache:
    """Decoded recordings as int16 in memory, up to a number of bytes; what does not fit is decoded each time.

    Decoding FLAC costs more than everything else a small feed does, and 1.6 h of 16 kHz speech is 180 MB as int16.
    What cannot be read is told once on stderr, whatever the decoder has to say of it, and is None. Safe to use from
    several threads.
    """

    def __init__(self, sample_rate_hz: int, max_bytes: int):
        self._sample_rate_hz = sample_rate_hz
        self._max_bytes = max_bytes
        self._free_bytes = max_bytes
        self._samples: dict[str, np.ndarray | None] = {}
        self._told: set[Path] = set()
        self._lock = threading.Lock()
        self._header = functools.lru_cache(_MAX_HEADERS)(read_header)

    def holds(self, utterances: Iterable[Utterance]) -> bool:
        """Whether all of these recordings fit into the memory, decoded; headers are read until that is known."""
        num_bytes = 0
        for _, num_samples in self._counted(utterances):
            num_bytes += 2 * num_samples
            if num_bytes > self._max_bytes:
                return False
        return True

    def seconds(self, utterances: UtteranceList) -> float:
        """[s] of all of these recordings; headers are read where the list does not tell. What is unreadable has none.

        Raises:
            UserError: none of them can be read.
        """
        seconds = utterances.seconds
        if seconds is None:
            num_samples = 0
            quiet = not sys.stderr.isatty()
            with tqdm(total=len(utterances), desc="lengths of recordings", unit="file", disable=quiet) as bar:
                for count, samples in self._counted(utterances):
                    num_samples += samples
                    bar.update(count)
            seconds = num_samples / self._sample_rate_hz
        if not seconds:
            raise UserError("a folder of data holds no recording to train on that can be read; leave it out, or weigh "
                            "the folders by numbers")
        return seconds

    def _counted(self, utterances: Iterable[Utterance]) -> Iterator[tuple[int, int]]:
        """For each of some stretches of a list, how many recordings it has and how many samples at this rate."""
        utterances = iter(utterances)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            while chunk := list(itertools.islice(utterances, _HEADERS_PER_CHUNK)):
                yield len(chunk), sum(threads.map(self._num_samples, chunk))

    def read(self, utterance: Utterance) -> np.ndarray | None:
        """int16[T] samples of a recording."""
        name = f"{utterance.path}|{utterance.key}"  # a file may hold several
        if name in self._samples:
            return self._samples[name]
        samples = self._told_if_unreadable(utterance, self._decoded)
        with self._lock:
            num_bytes = 0 if samples is None else samples.nbytes
            if name not in self._samples and num_bytes <= self._free_bytes:
                self._free_bytes -= num_bytes
                self._samples[name] = samples
        return samples

    def read_crop(self, utterance: Utterance, crop_samples: int, start_uniform: float) -> np.ndarray | None:
        """int16[T'] of a crop, its start drawn by a number in [0, 1), without the rest of the file, which is not kept.

        It is the crop that would be cut out of what `read` gives: sample for sample where the file has this rate, and
        within one step of int16 where it is resampled. Other crops of a damaged file may still be whole.
        """
        return self._told_if_unreadable(utterance, self._decoded_crop, crop_samples, start_uniform)

    def _extent(self, utterance: Utterance) -> tuple[int, int]:
        """Number of samples and rate in Hz, as they are in the file; only a header is read for it, and that once."""
        if utterance.ranges and utterance.sample_rate_hz:
            return num_samples_of(utterance.ranges), utterance.sample_rate_hz
        num_samples, rate_hz = self._header(str(utterance.path))
        return num_samples_of(utterance.ranges) or num_samples, rate_hz

    def _num_samples(self, utterance: Utterance) -> int:
        """Samples at this cache's rate; 0 of what cannot be read, which is told when it is drawn."""
        try:
            return resampled_length(*self._extent(utterance), self._sample_rate_hz)
        except Exception:  # noqa: BLE001 (decoders have errors of their own)
            return 0

    def _decoded(self, utterance: Utterance) -> np.ndarray:
        return _int16(read_utterance(utterance, self._sample_rate_hz).samples)

    def _decoded_crop(self, utterance: Utterance, crop_samples: int, start_uniform: float) -> np.ndarray:
        num_samples, rate_hz = self._extent(utterance)
        length = resampled_length(num_samples, rate_hz, self._sample_rate_hz)
        start, stop = crop_bounds(length, crop_samples, start_uniform)
        part = source_part(start, stop, num_samples, rate_hz, self._sample_rate_hz)
        ranges = narrowed(utterance.ranges or ((0, num_samples),), part.start, part.stop)
        samples = self._decoded(dataclasses.replace(utterance, ranges=ranges))
        return samples[part.skipped : part.skipped + stop - start]

    def _told_if_unreadable(self, utterance: Utterance, read, *args) -> np.ndarray | None:
        """What `read` gives of a recording; None if that fails, told once for each file."""
        try:
            return read(utterance, *args)
        except Exception as error:  # noqa: BLE001 (decoders have errors of their own, and memory may not do)
            known = isinstance(error, UserError)
            told = str(error) if known else f"{utterance.path} cannot be read ({first_line(error)})"
            with self._lock:
                if utterance.path not in self._told:
                    self._told.add(utterance.path)
                    print(f"left out: {told}", file=sys.stderr)
            return None


def _int16(samples: np.ndarray) -> np.ndarray:
    """float32[T] in [-1, 1] as int16[T]."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
