"""Batches of utterances of similar duration, for training: less padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hw_asr.config.registry import SAMPLERS
from hw_asr.datasets.samplers import Indices, Shard, TrainingBatchSampler, by_duration, cut, positive

MAX_BUCKETS = 100_000


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
        if positive("num_buckets", num_buckets) > MAX_BUCKETS:
            raise ValueError(f"num_buckets: expected at most {MAX_BUCKETS}, got {num_buckets}")
        order = by_duration(np.arange(len(self.durations)), self.durations)
        self._buckets = _equal_seconds(order, self.durations, num_buckets)
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


def _equal_seconds(order: Indices, durations: NDArray[np.float64], num_buckets: int) -> list[Indices]:
    """Cut a sorted order into at most `num_buckets` pieces of equal total duration, none empty."""
    total = np.cumsum(durations[order])
    ends = np.searchsorted(total, total[-1] * np.arange(1, num_buckets) / num_buckets) if len(order) else []
    return [bucket for bucket in np.split(order, ends) if len(bucket)]
