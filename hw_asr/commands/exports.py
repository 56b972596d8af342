"""Exports during training: checkpoints and metrics to the external storage, and a heartbeat beside them."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hw_asr.config import ExperimentConfig
from hw_asr.config.registry import STORAGES
from hw_asr.storage.runs import Run

logger = logging.getLogger(__name__)


class Exports:
    """A context manager around training; does nothing without `trainer.external_storage`.

    Set `finished` before the end of a run that needs no continuation. `best` describes the best value so far; `step` is
    where training starts. When another machine takes over the run, nothing more is exported and training is asked to
    stop.
    """

    def __init__(self, config: ExperimentConfig, run: Run, best: Callable[[], str], step: int = 0) -> None:
        self._config, self._run, self._best, self._step = config, run, best, step
        self._at_end: Callable[[], None] = lambda: None
        self.finished = False
        self.missing: int | None = None
        """Files that were not exported; None until the end, and without a storage."""

    def __enter__(self) -> Exports:
        """Log in to the storage, export the config and take the run over; raises StorageError."""
        trainer = self._config.trainer
        self._exporter = self._heartbeat = None
        if trainer.external_storage is None:
            return self
        from hw_asr.storage.exporter import Exporter
        from hw_asr.storage.heartbeat import Heartbeat

        # The heartbeat has a storage of its own: it must not wait for the upload of a checkpoint.
        beats = STORAGES.build(trainer.external_storage)
        heartbeat = Heartbeat(beats, self._run.id, trainer.heartbeat_seconds, self._lost, self._best, self._step)
        storage = STORAGES.build(trainer.external_storage)
        self._exporter = Exporter(
            storage, self._run, exported=heartbeat.exported, is_lost=lambda: heartbeat.is_taken_over(storage)
        )
        heartbeat.start()  # before the first export: two threads would make two folders of the run's name on Drive
        self._exporter.export(self._run.config_path)
        self._heartbeat = heartbeat
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Export the last state, finish what is pending, and write the last status."""
        if self._exporter is None or self._heartbeat is None:
            return
        if not self._heartbeat.is_lost:
            self._at_end()
        self._exporter.close()
        self.missing = len(self._exporter.missing)
        is_whole = self.finished and not self.missing  # else what is missing can only come from a continuation
        self._heartbeat.close("finished" if is_whole else "stopped", self._config.trainer.epochs)

    @property
    def is_set_back(self) -> bool:
        """Whether the storage has a state of a later step, which this run has given up."""
        return self._heartbeat is not None and self._heartbeat.is_set_back

    def export(self, path: Path, step: int = 0) -> None:
        """Upload a file soon; returns at once."""
        if self._exporter is not None:
            self._exporter.export(path, step)

    def at_end(self, export_last: Callable[[], None]) -> None:
        """Call `export_last` before the end."""
        self._at_end = export_last

    def _lost(self, host: str) -> None:
        logger.error("run %s is now trained by %s; this process stops and exports nothing more", self._run.id, host)
        if self._exporter is not None:
            self._exporter.stop(f"taken over by {host}")
        signal.raise_signal(signal.SIGTERM)  # unlike os.kill it reaches the handler on Windows, too
