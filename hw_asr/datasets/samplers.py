"""Batches of indices: they depend on seed and epoch only, not on the number of workers or processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
