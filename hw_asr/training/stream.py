"""The endless stream of training batches, and its position, which is restored without reading data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hw_asr.batch import Batch
from hw_asr.errors import UserError
from hw_asr.training.progress import Progress
from hw_asr.types import EpochSampler


class DataExhaustedError(UserError):
    """A whole pass over the training data yielded no utterance."""


class Placed(NamedTuple):
    """A batch, its pass over the data, and its position in that pass, from 0."""

    batch: Batch
    data_pass: int
    position: int


class BatchStream:
    """Batches from `loader` (a DataLoader over `sampler`), pass after pass, starting at the position in `progress`."""

    def __init__(self, loader: Iterable[Batch], sampler: EpochSampler, progress: Progress) -> None:
        self._loader = loader
        self._sampler = sampler
        self._progress = progress
        self._batches = self._walk()

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return len(self._sampler)

    def take(self, number: int) -> list[Placed]:
        """Return the next batches and advance `progress` past them."""
        group = [next(self._batches) for _ in range(number)]
        last = group[-1]
        if last.position + 1 < len(self._sampler):
            self._progress.data_pass, self._progress.batch_in_pass = last.data_pass, last.position + 1
        else:
            self._progress.data_pass, self._progress.batch_in_pass = last.data_pass + 1, 0
        return group

    def _walk(self) -> Iterator[Placed]:
        data_pass, start = self._progress.data_pass, self._progress.batch_in_pass
        while True:
            self._sampler.set_epoch(data_pass, start)
            usable = start > 0
            for index, batch in enumerate(self._loader, start):
                usable = usable or len(batch) > 0
                yield Placed(batch, data_pass, index)
            if not usable:
                raise DataExhaustedError(
                    "none of the training recordings could be decoded in a whole pass; see the warnings above"
                )
            data_pass, start = data_pass + 1, 0
