"""The DataLoader: worker processes that decode and collate, under every start method of multiprocessing."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from hw_asr.batch import Batch, Example, Failure
from hw_asr.datasets.collate import collate
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.types import EpochSampler

_HAS_SIGNAL_MASKS = hasattr(signal, "sigwaitinfo")
"""True on Linux, not on macOS and Windows."""


def make_loader(
    dataset: SpeechDataset, batch_sampler: EpochSampler, num_workers: int, pin_memory: bool = False
) -> SpeechLoader:
    """Return a loader of `Batch`es in the sampler's order.

    Workers run as long as the loader exists. Iterating does not change the global random state. The iteration raises
    DataError if a worker process dies.
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
    """A DataLoader whose error for a dead worker says what to do."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # collate makes batches of examples
        if self.num_workers and multiprocessing.get_start_method() != "fork":
            # Starting the tracker unblocks signals; later, that would undo _signals_held.
            resource_tracker.ensure_running()
        try:
            with _signals_held(), _no_child_handler():
                batches: Any = super().__iter__()
            yield from batches
        except (RuntimeError, OSError, EOFError) as error:
            dead = _dead(getattr(self._iterator, "_workers", ()))
            if not dead:
                raise
            raise DataError(
                f"a data loading process died (exit code {dead[0].exitcode}), probably because memory or shared "
                "memory (/dev/shm) was full; use fewer num_workers, smaller batches, or num_workers 0"
            ) from error


def _dead(workers: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Return the workers that have ended; waits for the first, because a killed process does not end immediately."""
    ended = wait([worker.sentinel for worker in workers], timeout=10)
    dead = [worker for worker in workers if worker.sentinel in ended]
    for worker in dead:
        worker.join(10)  # its files are closed a moment before its exit code can be read
    return dead


class SharedFlag:
    """The part of multiprocessing.Event that torch uses, without a lock.

    A worker that is killed while it reads an Event leaves it locked. The parent would then wait for the lock forever.
    """

    def __init__(self, context: BaseContext) -> None:
        self._value = context.RawValue(ctypes.c_bool, False)

    def is_set(self) -> bool:
        """Whether `set` was called in any process."""
        return bool(self._value.value)

    def set(self) -> None:
        """Set the flag."""
        self._value.value = True


def _lock_free_context() -> BaseContext:
    """Return the default context of multiprocessing with `SharedFlag` instead of `Event`."""
    default = multiprocessing.get_context()
    if default.get_start_method() == "forkserver":
        default.set_forkserver_preload([__name__])  # otherwise every worker imports torch by itself
    context = copy.copy(default)
    context.Event = lambda: SharedFlag(default)  # type: ignore[method-assign,assignment,return-value]
    return context


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM; processes started here inherit that, until `_prepare_worker`."""
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
    """Restore the handler of SIGCHLD: that of torch raises in any line of the program when a worker dies.

    Without it, whoever waits for the worker's batch notices the death within seconds.
    """
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


def _prepare_worker(_: int) -> None:
    """Use one thread; end with the parent; ignore Ctrl-C, and SIGTERM unless the parent sends it.

    Both signals reach the whole process group. The parent handles them, and needs the workers to complete its step.
    """
    torch.set_num_threads(1)
    sys.excepthook = _report_unless_disconnected
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()  # with forkserver, os.getppid() is the server, which outlives it
    assert parent is not None
    threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
    if _HAS_SIGNAL_MASKS:
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_of, args=(parent.pid,), daemon=True).start()
    gc.freeze()  # garbage collection would write to every page inherited from the parent, and so copy it


def _report_unless_disconnected(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print an exception of a thread, unless it is that of multiprocessing's server when the parent has died."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, traceback)


def _exit_after(parent_sentinel: int) -> None:
    wait([parent_sentinel])
    os._exit(1)


def _exit_on_sigterm_of(parent_pid: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent_pid:
        pass
    os._exit(0)
