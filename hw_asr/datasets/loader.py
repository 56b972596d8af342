"""The DataLoader: worker processes that decode, collate and are gone quietly."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from hw_asr.datasets.collate import collate
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.samplers import BatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.types import Batch, Example, Failure


def make_loader(
    dataset: SpeechDataset, batch_sampler: BatchSampler, num_workers: int, pin_memory: bool = False
) -> DataLoader[Example | Failure]:
    """Return a loader of `Batch`es in the sampler's order.

    Workers live as long as the loader. Iterating draws nothing from the global random state.
    Raises DataError from the iteration when a worker process dies.
    """
    return SpeechLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate,
        worker_init_fn=_prepare_worker,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )


class SpeechLoader(DataLoader[Example | Failure]):
    """A DataLoader that says what to do when one of its workers dies."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # collate makes batches of examples
        iterator: Any = super().__iter__()
        while True:
            try:
                batch: Batch = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                dead = [worker for worker in getattr(iterator, "_workers", ()) if not worker.is_alive()]
                if not dead:
                    raise
                raise DataError(
                    f"a process that loads data died (exit code {dead[0].exitcode}); most often the machine or its "
                    "shared memory (/dev/shm) is full: use fewer num_workers or smaller batches, or num_workers 0"
                ) from error
            yield batch


def _prepare_worker(_: int) -> None:
    """One thread per worker; Ctrl-C and SIGTERM are for the parent, with which the workers end."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()  # a collection would write to, and so copy, every page inherited from the parent
