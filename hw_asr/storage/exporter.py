"""Exports of a run's files while it trains; they never delay a training step and never end a run."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import ExternalStorage, StorageError, StorageUnavailable
from hw_asr.storage.file_versions import Uploads, Version, remove_left_over, upload_command
from hw_asr.storage.runs import Run

CLOSE_SECONDS = 120.0
logger = logging.getLogger(__name__)


class ExportedFile(NamedTuple):
    """A file that is in the storage now."""

    name: str
    step: int
    """Optimiser step of a checkpoint; 0 for other files."""
    md5: str


class Exporter:
    """Uploads files of a run one at a time in a thread; of several versions of a name only the newest.

    A failed upload is repeated `attempts` times with waits of `first_wait` seconds, doubled up to `longest_wait`; then
    it is retried after the next success, and at the end. In the thread, `is_lost` is asked before each upload whether
    another machine has the run, which gets nothing more then, and `exported` is called after each. Making an exporter
    logs in to the storage: StorageError when uploads are sure to be refused, a warning when it cannot be reached now.
    """

    def __init__(
        self,
        storage: ExternalStorage,
        run: Run,
        attempts: int = 5,
        first_wait: float = 5.0,
        longest_wait: float = 120.0,
        exported: Callable[[ExportedFile], None] = lambda file: None,
        is_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self._run, self._uploads = run, Uploads(storage, run)
        self._attempts, self._first_wait, self._longest_wait = attempts, first_wait, longest_wait
        self._on_exported, self._is_lost = exported, is_lost
        self._changed = threading.Condition()
        self._pending: dict[str, Version] = {}
        self._current: Version | None = None
        self._failed: dict[str, tuple[Version, str]] = {}
        self._unfrozen: dict[Path, str] = {}
        self._closing = self._abandoned = False
        self._num_frozen = 0
        self._thread = threading.Thread(target=self._work, name="exporter", daemon=True)
        self.failures = 0
        """Uploads that failed for good, even if a later one made up for them: see `missing`."""
        remove_left_over(run.model_dir)
        try:
            storage.check_writable()
        except StorageUnavailable as error:
            logger.warning("Exports of run %s are not possible now and will be tried later: %s", run.id, error)

    def export(self, path: Path, step: int = 0) -> None:
        """Upload the present version of a file soon, under its name; returns at once. After the end nothing happens."""
        with self._changed:
            if self._closing:
                return
            self._num_frozen += 1
            try:
                version = Version.freeze(path, step, self._num_frozen)
            except OSError as error:  # a full disk without hard links
                self._unfrozen[path] = str(error)
                logger.error("%s of run %s cannot be exported now: %s", path.name, self._run.id, error)
                return
            if version is None:
                return
            self._unfrozen.pop(path, None)
            for older in (self._pending.get(path.name), self._failed.pop(path.name, (None, ""))[0]):
                if older is not None:
                    older.discard()
            self._pending[path.name] = version
            self._changed.notify_all()
            if not self._thread.is_alive():
                self._thread.start()

    @property
    def exported(self) -> int:
        """Files that were uploaded."""
        return self._uploads.num_sent

    @property
    def missing(self) -> dict[str, str]:
        """Names of files whose newest version could not be uploaded, and why."""
        with self._changed:
            unfrozen = {path.name: reason for path, reason in self._unfrozen.items() if path.is_file()}
            return {**unfrozen, **{name: reason for name, (_, reason) in self._failed.items()}}

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Finish what is pending, within `timeout` seconds, and retry what failed; report what is missing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._retry_failed()
            waiting = [*([self._current.name] if self._current else []), *self._pending]
            self._changed.notify_all()
        if waiting:
            logger.info("Finishing the export of %s, for at most %g s", ", ".join(waiting), timeout)
        try:
            if self._thread.is_alive():
                self._thread.join(timeout)
        finally:
            self._abandon(f"not finished within the {timeout:g} s allowed at the end")
        for name, reason in self.missing.items():
            logger.error("NOT EXPORTED: %s of run %s: %s", name, self._run.id, reason)
        if self.missing:
            logger.error(
                "%d file(s) of run %s exist on this machine only; when the storage is available again: %s",
                len(self.missing), self._run.id, upload_command(self._run, self.missing),
            )  # fmt: skip

    def stop(self, reason: str) -> None:
        """Upload nothing more, not even at the end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._abandon(reason)

    def _abandon(self, reason: str) -> None:
        with self._changed:
            self._abandoned = True
            unfinished = dict(self._pending)
            if self._current is not None:
                unfinished.setdefault(self._current.name, self._current)
            self._pending.clear()
            for name, version in unfinished.items():
                self.failures += name not in self._failed
                self._failed[name] = (version, reason)
            for version, _ in self._failed.values():
                version.discard()

    def _work(self) -> None:
        while (version := self._take()) is not None:
            reason = self._upload(version)
            with self._changed:
                if self._abandoned:
                    return
                self._record(version, reason)
                self._current = None

    def _take(self) -> Version | None:
        """Wait for the next file; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if not self._pending or self._abandoned:
                return None
            self._current = self._pending.pop(next(iter(self._pending)))
            return self._current

    def _record(self, version: Version, reason: str | None) -> None:
        if reason is None or version.name in self._pending:  # done, or a newer version makes up for this one
            version.discard()
        if reason is None:
            if not self._closing:  # the storage works: retry what failed
                self._retry_failed()
        elif version.name not in self._pending:
            self.failures += 1
            self._failed[version.name] = (version, reason)
            logger.warning("Export of %s of run %s failed: %s", version.name, self._run.id, reason)

    def _retry_failed(self) -> None:
        for name, (version, _) in self._failed.items():
            self._pending.setdefault(name, version)
        self._failed.clear()

    def _upload(self, version: Version) -> str | None:
        """Return why the upload failed; None when it succeeded, or when the file has been removed meanwhile."""
        name = version.name
        backoff = Backoff(self._attempts, self._first_wait, self._longest_wait, lambda s: self._pause(name, s))
        while True:
            last = self._closing
            if not version.path.exists():
                logger.info("%s of run %s was removed before it was exported", name, self._run.id)
                return None
            try:
                if self._is_lost():
                    return "another machine trains the run"
                md5 = self._uploads.send(version)
                self._on_exported(ExportedFile(name, version.step, md5))
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
                return str(error)
            except Exception as error:  # a bug of ours must not end exports; its text may hold anything
                logger.debug("export: %s", "".join(traceback.format_tb(error.__traceback__)))
                return f"unexpected {type(error).__name__}"

    def _pause(self, name: str, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or name in self._pending, seconds)
