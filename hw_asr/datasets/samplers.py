"""Batches of indices: they depend on seed and epoch only, not on the number of workers or processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.config.registry import SAMPLERS

Indices = NDArray[np.int64]
Durations = Sequence[float] | NDArray[np.float64]
"""Seconds of each utterance."""


class Shard(NamedTuple):
    """The utterances that a sampler divides into batches, and which of these batches it yields."""

    durations: Durations
    seed: int = 0
    """Seed of the random order."""
    rank: int = 0
    """This process, from 0."""
    world_size: int = 1
    """Number of processes."""


def padding_share(durations: Durations, batches: Sequence[Sequence[int]]) -> float:
    """Return which share of the padded batches is padding, in [0, 1)."""
    seconds = np.asarray(durations, dtype=np.float64)
    padded = sum(len(batch) * float(seconds[batch].max()) for batch in map(np.asarray, batches))
    used = sum(float(seconds[np.asarray(batch)].sum()) for batch in batches)
    return 1.0 - used / padded if padded > 0 else 0.0


class BatchSampler(ABC):
    """Yields the batches of one epoch that belong to process `rank` of `world_size`, as lists of indices.

    `set_epoch` chooses the epoch and the first batch to yield; `len` is the number of batches in a whole epoch.
    """

    def __init__(self, durations: Durations, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected one in [0, {world_size}), got {rank}")
        self.durations: NDArray[np.float64] = np.asarray(durations, dtype=np.float64)
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._epoch, self._start_batch = 0, 0

    @property
    @abstractmethod
    def num_batches(self) -> int:
        """Number of batches this process has in an epoch; the same in every epoch."""

    @abstractmethod
    def _batches(self) -> list[Indices]:
        """Return the batches this process has in the chosen epoch."""

    def __len__(self) -> int:
        return self.num_batches

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose what the next iteration yields: epoch `epoch`, from 0, without its first `start_batch` batches."""
        self._epoch, self._start_batch = epoch, start_batch

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches()[self._start_batch :]:
            yield batch.tolist()


class TrainingBatchSampler(BatchSampler):
    """Distributes one list of batches over the processes in turn, so that each gets the same number.

    A list that does not divide evenly is padded with its first batches.
    """

    @abstractmethod
    def _num_global_batches(self) -> int:
        """Return how many batches all processes together have in an epoch."""

    @abstractmethod
    def _global_batches(self, random: np.random.Generator, epoch: int) -> list[Indices]:
        """Return the batches of an epoch, of all processes."""

    @property
    def num_batches(self) -> int:
        """Number of batches every process has in an epoch."""
        return -(-self._num_global_batches() // self._world_size)

    def _batches(self) -> list[Indices]:
        batches = self._global_batches(np.random.default_rng([self._seed, self._epoch]), self._epoch)
        assert len(batches) == self._num_global_batches()
        mine = range(self._rank, self.num_batches * self._world_size, self._world_size)
        return [batches[number % len(batches)] for number in mine]


class RandomBatchSampler(TrainingBatchSampler):
    """Utterances in random order, or in the given one, `batch_size` at a time; the last batch may be smaller."""

    def __init__(self, batch_size: int, shard: Shard, shuffle: bool = True) -> None:
        super().__init__(*shard)
        self._batch_size = positive("batch_size", batch_size)
        self._shuffle = shuffle

    def _num_global_batches(self) -> int:
        return -(-len(self.durations) // self._batch_size)

    def _global_batches(self, random: np.random.Generator, epoch: int) -> list[Indices]:
        size = len(self.durations)
        return cut(random.permutation(size) if self._shuffle else np.arange(size), self._batch_size)


@SAMPLERS.register()
class GroupLengthBatchSampler(TrainingBatchSampler):
    """Batches of `batch_size` utterances of similar duration.

    The shuffled utterances are cut into groups of `batches_per_group` batches; each group is sorted by duration and
    cut into batches, and these are shuffled. More batches per group means less padding and less randomness.
    `short_first` gives the first epoch from short to long (SortaGrad, arXiv:1512.02595).
    """

    def __init__(self, batch_size: int, shard: Shard, batches_per_group: int = 20, short_first: bool = False) -> None:
        super().__init__(*shard)
        self._batch_size = positive("batch_size", batch_size)
        self._group_size = self._batch_size * positive("batches_per_group", batches_per_group)
        self._short_first = short_first

    def _num_global_batches(self) -> int:
        return -(-len(self.durations) // self._batch_size)

    def _global_batches(self, random: np.random.Generator, epoch: int) -> list[Indices]:
        order = random.permutation(len(self.durations))
        if self._short_first and epoch == 0:
            return cut(by_duration(order, self.durations), self._batch_size)
        batches = [
            batch
            for group in cut(order, self._group_size)
            for batch in cut(by_duration(group, self.durations), self._batch_size)
        ]
        return [batches[index] for index in random.permutation(len(batches))]


@SAMPLERS.register()
class DurationBatchSampler(TrainingBatchSampler):
    """Batches of at most `max_seconds` of audio, padding included, whatever the number of utterances.

    Utterances are put in `num_buckets` buckets of similar duration and equal total duration; each bucket has its
    own batch size, at most `max_batch_size`. The rest of a bucket moves to the next longer one. An utterance longer
    than `max_seconds` is a batch of its own. `short_first` gives the first epoch from short to long.
    """

    def __init__(
        self,
        max_seconds: float,
        shard: Shard,
        max_batch_size: int | None = None,
        num_buckets: int = 30,
        short_first: bool = False,
    ) -> None:
        super().__init__(*shard)
        if not max_seconds > 0:
            raise ValueError(f"max_seconds: expected a positive number of seconds, got {max_seconds}")
        order = by_duration(np.arange(len(self.durations)), self.durations)
        self._buckets = _equal_seconds(order, self.durations, positive("num_buckets", num_buckets))
        most = len(self.durations) if max_batch_size is None else positive("max_batch_size", max_batch_size)
        longest = [max(float(self.durations[bucket[-1]]), 1e-3) for bucket in self._buckets]
        self._batch_sizes = [min(most, max(1, int(max_seconds / seconds))) for seconds in longest]
        self._short_first = short_first
        self._num_batches = len(self._cut_buckets(self._buckets))

    def _num_global_batches(self) -> int:
        return self._num_batches

    def _global_batches(self, random: np.random.Generator, epoch: int) -> list[Indices]:
        batches = self._cut_buckets([random.permutation(bucket) for bucket in self._buckets])
        if self._short_first and epoch == 0:
            return batches
        return [batches[index] for index in random.permutation(len(batches))]

    def _cut_buckets(self, buckets: Sequence[Indices]) -> list[Indices]:
        batches: list[Indices] = []
        left_over: Indices = np.empty(0, np.int64)
        for bucket, batch_size in zip(buckets, self._batch_sizes, strict=True):
            pieces = cut(np.concatenate([left_over, bucket]), batch_size)
            left_over = pieces.pop() if len(pieces[-1]) < batch_size else bucket[:0]
            batches += pieces
        return [*batches, left_over] if len(left_over) else batches


class SequentialBatchSampler(BatchSampler):
    """For evaluation: every utterance exactly once over all processes, the longest first, similar ones together.

    The sorted utterances are distributed over the processes one by one, so their shares differ by at most one.
    """

    def __init__(self, batch_size: int, shard: Shard) -> None:
        super().__init__(*shard)
        self._batch_size = positive("batch_size", batch_size)
        order = by_duration(np.arange(len(self.durations)), self.durations)[::-1]
        self._own_batches = cut(order[self._rank :: self._world_size], batch_size)

    @property
    def num_batches(self) -> int:
        """Number of batches this process has; others may have one more or less."""
        return len(self._own_batches)

    def _batches(self) -> list[Indices]:
        return self._own_batches


def cut(order: Indices, size: int) -> list[Indices]:
    """Cut into pieces of `size`, the last of which may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def by_duration(indices: Indices, durations: NDArray[np.float64]) -> Indices:
    """Sort from short to long, equal ones in the order given."""
    return indices[np.argsort(durations[indices], kind="stable")]


def positive(name: str, value: int) -> int:
    """Return the value; raises ValueError when it is below 1."""
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    return value


def _equal_seconds(order: Indices, durations: NDArray[np.float64], num_buckets: int) -> list[Indices]:
    """Cut a sorted order into at most `num_buckets` pieces of equal total duration, none empty."""
    total = np.cumsum(durations[order])
    ends = np.searchsorted(total, total[-1] * np.arange(1, num_buckets) / num_buckets) if len(order) else []
    return [bucket for bucket in np.split(order, ends) if len(bucket)]
