"""The DataLoader: worker processes that decode, collate and are gone quietly."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from hw_asr.datasets.collate import collate
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.samplers import BatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.types import Batch, Example, Failure

_HAS_SIGNAL_MASKS = hasattr(signal, "sigwaitinfo")
"""True on Linux, not on macOS and Windows."""


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
        multiprocessing_context=_lock_free_context() if num_workers else None,
        generator=torch.Generator().manual_seed(0),
    )


class SpeechLoader(DataLoader[Example | Failure]):
    """A DataLoader that says what to do when one of its workers dies."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # collate makes batches of examples
        with _signals_held(), _no_child_handler():
            iterator: Any = super().__iter__()
        while True:
            try:
                batch: Batch = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                dead = _dead(getattr(iterator, "_workers", ()))
                if not dead:
                    raise
                raise DataError(
                    f"a process that loads data died (exit code {dead[0].exitcode}); most often the machine or its "
                    "shared memory (/dev/shm) is full: use fewer num_workers or smaller batches, or num_workers 0"
                ) from error
            yield batch


def _dead(workers: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Return the workers that have ended; one that was just killed may still be ending."""
    for worker in workers:
        worker.join(0.5)
    return [worker for worker in workers if not worker.is_alive()]


class SharedFlag:
    """What torch needs of a multiprocessing.Event, without its lock.

    A worker that is killed while it looks at an Event leaves it locked, and the parent then waits for the lock instead
    of noticing the death.
    """

    def __init__(self, context: BaseContext) -> None:
        self._value = context.RawValue(ctypes.c_bool, False)

    def is_set(self) -> bool:
        """Whether `set` was called, in any process."""
        return bool(self._value.value)

    def set(self) -> None:
        """Set the flag for good."""
        self._value.value = True


def _lock_free_context() -> BaseContext:
    """Return the default way of starting processes, its events being flags."""
    default = multiprocessing.get_context()
    context = copy.copy(default)
    context.Event = lambda: SharedFlag(default)  # type: ignore[method-assign,assignment,return-value]
    return context


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM; workers started meanwhile do so until they are prepared to hear them."""
    if not _HAS_SIGNAL_MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_child_handler() -> Iterator[None]:
    """Undo what torch does to SIGCHLD: its handler raises wherever the program is when a worker dies.

    Without it the death is noticed, within seconds, by whoever waits for the worker's batch.
    """
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


def _prepare_worker(_: int) -> None:
    """One thread per worker; Ctrl-C, and a SIGTERM to the whole process group, are for the parent to answer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _HAS_SIGNAL_MASKS:
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_the_parent_to_end_it, daemon=True).start()
    gc.freeze()  # a collection would write to, and so copy, every page inherited from the parent


def _wait_for_the_parent_to_end_it() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
