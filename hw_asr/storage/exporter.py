"""Exports of a run's files while it trains; they never delay a training step and never end a run."""

from __future__ import annotations

import logging
import shutil
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import ExternalStorage, StorageError, StorageUnavailable, md5_of
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX
from hw_asr.storage.runs import Run

CLOSE_SECONDS = 120.0
logger = logging.getLogger(__name__)


class ExportedFile(NamedTuple):
    """A file that is in the storage now."""

    name: str
    step: int
    """Optimiser step of a checkpoint; 0 for other files."""
    md5: str


class _Task(NamedTuple):
    """A version of a file to upload: `frozen` keeps its content when `path` gets a newer version."""

    path: Path
    frozen: Path
    step: int

    @property
    def name(self) -> str:
        return self.path.name


class Exporter:
    """Uploads files of a run one at a time in a thread; of several versions of a name only the newest.

    Content that the storage has already is not sent again. The record of the metrics goes ahead of each checkpoint,
    so that it covers at least the steps of the checkpoint. A failed upload is repeated `attempts` times with waits of
    `first_wait` seconds, doubled up to `longest_wait`; then it is retried after the next success, and at the end.
    `exported` is called in the thread after each upload. Making an exporter logs in to the storage: StorageError when
    uploads are sure to be refused, a warning when the storage cannot be reached now.
    """

    def __init__(
        self,
        storage: ExternalStorage,
        run: Run,
        attempts: int = 5,
        first_wait: float = 5.0,
        longest_wait: float = 120.0,
        exported: Callable[[ExportedFile], None] = lambda file: None,
    ) -> None:
        self._storage, self._run = storage, run
        self._attempts, self._first_wait, self._longest_wait = attempts, first_wait, longest_wait
        self._on_exported = exported
        self._changed = threading.Condition()
        self._pending: dict[str, _Task] = {}
        self._current: _Task | None = None
        self._failed: dict[str, tuple[_Task, str]] = {}
        self._md5s: dict[str, str] = {}  # of what this exporter has uploaded, by name
        self._closing = self._abandoned = False
        self._num_frozen = 0
        self._thread = threading.Thread(target=self._work, name="exporter", daemon=True)
        self.exported = 0
        """Files that were uploaded."""
        self.failures = 0
        """Uploads that failed for good, even if a later one made up for them: see `missing`."""
        for frozen in run.model_dir.glob(".*.export"):
            frozen.unlink()  # of a process that was killed
        try:
            storage.check_writable()
        except StorageUnavailable as error:
            logger.warning("Exports of run %s are not possible now and will be tried later: %s", run.id, error)

    def export(self, path: Path, step: int = 0) -> None:
        """Upload the present version of a file soon, under its name; returns at once. After the end nothing happens."""
        with self._changed:
            task = None if self._closing else self._freeze(path, step)
            if task is None:
                return
            self._drop(self._pending.get(path.name))
            self._drop(self._failed.pop(path.name, (None, ""))[0])
            self._pending[path.name] = task
            self._changed.notify_all()
            if not self._thread.is_alive():
                self._thread.start()

    @property
    def missing(self) -> dict[str, str]:
        """Names of files whose newest version could not be uploaded, and why."""
        with self._changed:
            return {name: reason for name, (_, reason) in self._failed.items()}

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
                "%d file(s) of run %s exist on this machine only; when the storage is available again: "
                "python scripts/model_loader/model_loader.py upload --run %s NAME",
                len(self.missing),
                self._run.id,
                self._run.id,
            )

    def stop(self, reason: str) -> None:
        """Upload nothing more, not even at the end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._abandon(reason)

    def _freeze(self, path: Path, step: int) -> _Task | None:
        """Give the present content a hidden name of its own; None when the file does not exist."""
        self._num_frozen += 1
        frozen = path.with_name(f".{path.name}.{self._num_frozen}.export")
        frozen.unlink(missing_ok=True)
        try:
            frozen.hardlink_to(path)
        except FileNotFoundError:
            return None
        except OSError:  # a file system without hard links
            shutil.copyfile(path, frozen)
        return _Task(path, frozen, step)

    @staticmethod
    def _drop(task: _Task | None) -> None:
        if task is not None:
            task.frozen.unlink(missing_ok=True)

    def _abandon(self, reason: str) -> None:
        with self._changed:
            self._abandoned = True
            unfinished = dict(self._pending)
            if self._current is not None:
                unfinished.setdefault(self._current.name, self._current)
            self._pending.clear()
            for name, task in unfinished.items():
                self.failures += name not in self._failed
                self._failed[name] = (task, reason)
            for task, _ in self._failed.values():
                self._drop(task)

    def _work(self) -> None:
        while (task := self._take()) is not None:
            reason = self._upload(task)
            with self._changed:
                if self._abandoned:
                    return
                self._record(task, reason)
                self._current = None

    def _take(self) -> _Task | None:
        """Wait for the next file; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            if not self._pending or self._abandoned:
                return None
            self._current = self._pending.pop(next(iter(self._pending)))
            return self._current

    def _record(self, task: _Task, reason: str | None) -> None:
        if reason is None or task.name in self._pending:  # done, or a newer version makes up for this one
            self._drop(task)
        if reason is None:
            if not self._closing:  # the storage works: retry what failed
                self._retry_failed()
        elif task.name not in self._pending:
            self.failures += 1
            self._failed[task.name] = (task, reason)
            logger.warning("Export of %s of run %s failed: %s", task.name, self._run.id, reason)

    def _retry_failed(self) -> None:
        for name, (task, _) in self._failed.items():
            self._pending.setdefault(name, task)
        self._failed.clear()

    def _upload(self, task: _Task) -> str | None:
        """Return why the upload failed; None when it succeeded, or when the file has been removed meanwhile."""
        name = task.name
        backoff = Backoff(self._attempts, self._first_wait, self._longest_wait, lambda s: self._pause(name, s))
        while True:
            last = self._closing
            if not task.path.exists():
                logger.info("%s of run %s was removed before it was exported", name, self._run.id)
                return None
            try:
                self._send(task)
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

    def _send(self, task: _Task) -> None:
        """Bring a file into the storage, unless it is there; raises StorageError."""
        md5 = md5_of(task.frozen)
        if task.name.endswith(CHECKPOINT_SUFFIX) and self._run.metrics_path.is_file():
            self._send_metrics()
        if self._md5s.get(task.name) != md5:
            twin = next((name for name, known in self._md5s.items() if known == md5), None)
            if twin is None or not self._storage.copy(self._run.id, twin, task.name):
                self._storage.upload(task.frozen, self._run.id, task.name)
            self._md5s[task.name] = md5
            self.exported += 1
        self._on_exported(ExportedFile(task.name, task.step, md5))

    def _send_metrics(self) -> None:
        """Upload the whole lines of the record as it is now."""
        path = self._run.metrics_path
        content = path.read_bytes()
        snapshot = path.with_name(f".{path.name}.export")
        snapshot.write_bytes(content[: content.rfind(b"\n") + 1])
        try:
            md5 = md5_of(snapshot)
            if self._md5s.get(path.name) != md5:
                self._storage.upload(snapshot, self._run.id, path.name)
                self._md5s[path.name] = md5
        finally:
            snapshot.unlink(missing_ok=True)

    def _pause(self, name: str, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or name in self._pending, seconds)
