"""Keeping two machines from training one run: a status that is rewritten while training is alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from hw_asr.storage.exporter import ExportedFile
from hw_asr.storage.external import ExternalStorage, StorageError
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX, RunError, RunId
from hw_asr.storage.run_status import RunStatus, State, read_status, write_status

STALE_INTERVALS = 3
"""Intervals without a new beat after which a machine counts as gone."""
logger = logging.getLogger(__name__)


def wait_until_stale(
    storage: ExternalStorage, run: RunId, status: RunStatus, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when the machine that last trained a run is gone; raises RunError when it is alive, or StorageError.

    No clocks are compared: a status that does not change within three of its intervals is of a machine that is gone.
    """
    if status.state != "running":
        return
    seconds = STALE_INTERVALS * min(max(status.interval, 0.0), 300.0)
    logger.info("run %s was last trained by %s; waiting %.0f s for a status update", run, status.host, seconds)
    sleep(seconds)
    now = read_status(storage, run)
    if now is not None and now.state == "running" and (now.owner, now.beat) != (status.owner, status.beat):
        raise RunError(f"run {run} is being trained by {now.host}; stop it there first, or start another run")


class Heartbeat:
    """Rewrites the status of a run from a thread of its own, every `interval` seconds and after each export.

    `step` is the run's optimiser step; what the storage has of later steps belongs to a continuation that was given up.
    `lost` is called once, in the thread that asked, when another machine has taken over the run. `best` describes the
    best value so far. A storage that fails is retried at the next beat.
    """

    def __init__(
        self,
        storage: ExternalStorage,
        run: RunId,
        interval: float,
        lost: Callable[[str], None],
        best: Callable[[], str] = lambda: "",
        step: int = 0,
    ) -> None:
        self._storage, self._run, self._lost, self._best = storage, run, lost, best
        self._status, self._first_step = RunStatus(interval=interval), step
        self._changed = threading.Condition()
        self._news = self._closing = self._is_lost = self._has_taken_over = self.is_set_back = False
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether another machine is known to have taken over the run."""
        return self._is_lost

    def start(self) -> None:
        """Take the run over: write the status and begin to rewrite it; a storage that fails is a warning."""
        try:
            self._take_over()
        except (StorageError, OSError) as error:  # OSError: the status goes through a temporary file
            logger.warning("the status of run %s cannot be written now: %s", self._run, error)
        self._thread.start()

    def _take_over(self) -> None:
        before = read_status(self._storage, self._run)
        with self._changed:
            if before is not None and not self._status.checkpoint:
                self.is_set_back = before.step > self._first_step
                if not self.is_set_back:
                    self._status = replace(self._status, checkpoint=before.checkpoint, step=before.step, md5=before.md5)
            self._status = status = self._status.next_beat()
        write_status(self._storage, self._run, status)
        self._has_taken_over = True

    def exported(self, file: ExportedFile) -> None:
        """Note a file that is in the storage now; a checkpoint of a later step is what continues the run."""
        if not file.name.endswith(CHECKPOINT_SUFFIX):
            return
        with self._changed:
            if file.step >= self._status.step:
                self._status = replace(self._status, checkpoint=file.name, step=file.step, md5=file.md5)
            self._news = True  # for an older one, too: a `last.pth` newer than the status counts as uploaded by hand
            self._changed.notify_all()

    def close(self, state: State, epochs: int = 0) -> None:
        """Write the last status: `stopped` for a run that can be continued, else `finished` after `epochs`."""
        with self._changed:
            self._closing = True
            self._status = replace(self._status, state=state, epochs=epochs).next_beat()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(60)

    def is_taken_over(self, storage: ExternalStorage) -> bool:
        """Ask the storage whether another machine trains the run, or has trained it further; raises StorageError.

        `storage` is the run's, of the thread that asks: not all storages can be used by two threads at once.
        """
        if self._is_lost or not self._has_taken_over:
            return self._is_lost
        now = read_status(storage, self._run)
        if now is None or now.owner == self._status.owner:
            return False
        if now.state != "running" and now.step <= self._status.step:  # it ended without a checkpoint of its own
            return False
        with self._changed:
            is_first, self._is_lost = not self._is_lost, True
        if is_first:
            self._lost(now.host)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._news or self._closing, self._status.interval)
                last = self._closing
                self._news = False
                self._status = replace(self._status, best=self._best()).next_beat()
                status = self._status
            try:
                if not self._has_taken_over:
                    self._take_over()
                elif self.is_taken_over(self._storage):
                    return
                else:
                    write_status(self._storage, self._run, status)
            except (StorageError, OSError) as error:
                logger.debug("the status of run %s was not written: %s", self._run, error)
            if last:
                return
