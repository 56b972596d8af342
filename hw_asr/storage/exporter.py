"""Exports of checkpoints beside training, which they never hold up and never end."""

from __future__ import annotations

import logging
import threading
import traceback
from pathlib import Path

from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import ExternalStorage, StorageError, StorageUnavailable
from hw_asr.storage.runs import Run

CLOSE_SECONDS = 120.0
logger = logging.getLogger(__name__)


class Exporter:
    """Uploads files of a run one at a time in a thread; of several versions of a name only the newest.

    A failed upload is tried `attempts` times with waits of `first_wait` seconds, doubled up to `longest_wait`; then it
    is given up until another export succeeds or the run ends. Making an exporter logs in to the storage: StorageError
    when uploads are bound to be refused, a warning when it cannot be reached now.
    """

    def __init__(
        self,
        storage: ExternalStorage,
        run: Run,
        attempts: int = 5,
        first_wait: float = 5.0,
        longest_wait: float = 120.0,
    ) -> None:
        self._storage, self._run_id = storage, run.id
        self._attempts, self._first_wait, self._longest_wait = attempts, first_wait, longest_wait
        self._changed = threading.Condition()
        self._pending: dict[str, Path] = {}
        self._current: tuple[str, Path] | None = None
        self._failed: dict[str, tuple[Path, str]] = {}
        self._closing = self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="exporter", daemon=True)
        self.exported = 0
        """Uploads that succeeded."""
        self.failures = 0
        """Uploads that were given up, though some may have been made good later: see `missing`."""
        try:
            storage.check_writable()
        except StorageUnavailable as error:
            logger.warning("Exports of run %s are not possible now and will be tried later: %s", run.id, error)

    def export(self, path: Path) -> None:
        """Have a file uploaded under its name, soon; returns at once."""
        with self._changed:
            assert not self._closing, "export after close"
            self._pending[path.name] = path
            self._failed.pop(path.name, None)
            self._changed.notify_all()
            if not self._thread.is_alive():
                self._thread.start()

    @property
    def missing(self) -> dict[str, str]:
        """Names of files whose newest version was given up, and why."""
        with self._changed:
            return {name: reason for name, (_, reason) in self._failed.items()}

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Finish what is pending, within `timeout` seconds, trying once more what failed; report what is missing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._retry_failed()
            waiting = [*([self._current[0]] if self._current else []), *self._pending]
            self._changed.notify_all()
        if waiting:
            logger.info("Finishing the export of %s, for at most %g s", ", ".join(waiting), timeout)
        try:
            if self._thread.is_alive():
                self._thread.join(timeout)
        finally:
            self._abandon(f"not finished within the {timeout:g} s allowed at the end")
        for name, reason in self.missing.items():
            logger.error("NOT EXPORTED: %s of run %s: %s", name, self._run_id, reason)
        if self.missing:
            logger.error(
                "%d file(s) of run %s exist on this machine only; when the storage is back: "
                "python scripts/model_loader/model_loader.py upload --run %s NAME",
                len(self.missing),
                self._run_id,
                self._run_id,
            )

    def _abandon(self, reason: str) -> None:
        with self._changed:
            self._abandoned = True
            unfinished = dict(self._pending)
            if self._current is not None:
                unfinished.setdefault(*self._current)
            self._pending.clear()
            for name, path in unfinished.items():
                self.failures += name not in self._failed
                self._failed[name] = (path, reason)

    def _work(self) -> None:
        while (task := self._take()) is not None:
            reason = self._upload(*task)
            with self._changed:
                if self._abandoned:
                    return
                self._record(*task, reason)
                self._current = None

    def _take(self) -> tuple[str, Path] | None:
        """Wait for the next file; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if not self._pending or self._abandoned:
                return None
            name = next(iter(self._pending))
            self._current = (name, self._pending.pop(name))
            return self._current

    def _record(self, name: str, path: Path, reason: str | None) -> None:
        if reason is None:
            self._failed.pop(name, None)
            if not self._closing:  # the storage is back: make good what failed
                self._retry_failed()
        elif name not in self._pending:  # a newer version makes up for this one
            self.failures += 1
            self._failed[name] = (path, reason)
            logger.warning("Export of %s of run %s failed: %s", name, self._run_id, reason)

    def _retry_failed(self) -> None:
        for name, (path, _) in self._failed.items():
            self._pending.setdefault(name, path)
        self._failed.clear()

    def _upload(self, name: str, path: Path) -> str | None:
        """Return why the upload was given up, None when it succeeded or there is nothing to upload any more."""
        backoff = Backoff(self._attempts, self._first_wait, self._longest_wait, lambda s: self._pause(name, s))
        while True:
            last = self._closing
            try:
                self._storage.upload(path, self._run_id, name)
                self.exported += 1
                return None
            except StorageUnavailable as error:
                if last or self._closing or name in self._pending:
                    return str(error)
                try:
                    backoff.failed(error)
                except StorageUnavailable:
                    return str(error)
                if name in self._pending:
                    return str(error)
            except (StorageError, OSError) as error:
                if not path.exists():
                    logger.info("%s of run %s was removed before it was exported", name, self._run_id)
                    return None
                return str(error)
            except Exception as error:  # a fault of ours must not end exports; its text may hold anything
                logger.debug("export: %s", "".join(traceback.format_tb(error.__traceback__)))
                return f"unexpected {type(error).__name__}"

    def _pause(self, name: str, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or name in self._pending, seconds)
