"""Where the files of a run lie; nothing else in the project builds these paths.

SAVE_DIR/models/EXPERIMENT/RUN/{config.json, NAME.pth}
SAVE_DIR/log/EXPERIMENT/RUN/{metrics.jsonl, ...}
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hw_asr.errors import nearest
from hw_asr.runtime.file_lock import LOCK_NAME, hold
from hw_asr.runtime.writable import try_directory
from hw_asr.storage.run_names import (
    CHECKPOINT_SUFFIX,
    CONFIG_NAME,
    LOG_NAME,
    MAX_NAME_BYTES,
    METRICS_NAME,
    RunError,
    RunId,
    checkpoint_file,
    is_safe_name,
)

_FILES_OF_A_START = {LOCK_NAME, CONFIG_NAME, LOG_NAME, ".allowed"}


@dataclass(frozen=True)
class Run:
    """One training run and the places of its files; making one touches no disk."""

    experiment: str
    name: str
    model_dir: Path
    log_dir: Path

    @classmethod
    def of_checkpoint(cls, path: Path) -> Run:
        """Return the run a checkpoint belongs to.

        A checkpoint outside the layout makes a run of its own directory, with logs in `log/` below it. RunError when
        the file does not exist, naming the nearest.
        """
        if path.is_dir():
            raise RunError(f"{path}: is a directory; give one of its checkpoints{nearest('', _checkpoint_names(path))}")
        if not path.is_file():
            raise RunError(f"{path}: no such checkpoint{nearest(path.name, _checkpoint_names(path.parent))}")
        # The user's own spelling of the path is kept for messages; only the names come from the absolute one.
        directory = Path(os.path.normpath(path.absolute())).parent
        return cls.below(directory.parent.parent, RunId(directory.parent.name, directory.name), path.parent)

    @classmethod
    def below(cls, models_dir: Path, run: RunId, model_dir: Path | None = None) -> Run:
        """Return the run `models_dir/EXPERIMENT/RUN`; its logs lie in the `log` beside `models`, or else within it."""
        model_dir = model_dir or models_dir / run.experiment / run.name
        in_layout = models_dir.name == "models"
        log_dir = models_dir.parent / "log" / run.experiment / run.name if in_layout else model_dir / "log"
        return cls(run.experiment, run.name, model_dir, log_dir)

    @classmethod
    def all_below(cls, models_dir: Path) -> list[Run]:
        """All runs in a directory of models, by experiment and name; costs one directory read per experiment."""
        return [
            cls.below(models_dir, RunId(experiment, name))
            for experiment in _directories(models_dir)
            for name in _directories(models_dir / experiment)
        ]

    @property
    def id(self) -> RunId:
        """The run's name on an external storage."""
        return RunId(self.experiment, self.name)

    @property
    def config_path(self) -> Path:
        """The experiment's configuration, as it was run."""
        return self.model_dir / CONFIG_NAME

    @property
    def metrics_path(self) -> Path:
        """The record of everything that was measured, one JSON object a line."""
        return self.log_dir / METRICS_NAME

    def checkpoint_path(self, name: str) -> Path:
        """Where the checkpoint of this name lies; `name` with or without its suffix."""
        return self.model_dir / checkpoint_file(name)

    def checkpoints(self) -> list[Path]:
        """All whole checkpoints, the one written last at the end."""
        names = _checkpoint_names(self.model_dir)
        return sorted((self.model_dir / name for name in names), key=lambda path: (path.stat().st_mtime_ns, path.name))

    def discard(self) -> None:
        """Remove a run that never started, and the directories above it that are empty then."""
        for directory in (self.log_dir, self.model_dir):
            shutil.rmtree(directory, ignore_errors=True)
            for parent in islice(directory.parents, 3):  # EXPERIMENT, models or log, SAVE_DIR
                with suppress(OSError):
                    parent.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out of the run; RunError when one has it. Ends with the process, however it ends."""
        with ExitStack() as stack:
            try:
                stack.enter_context(hold(self.model_dir / LOCK_NAME))
            except BlockingIOError as error:
                raise RunError(
                    f"{self.model_dir}: in use by {error.args[1]}; wait for its end or start a run of another name"
                ) from None
            yield


@dataclass(frozen=True)
class Runs:
    """All runs below one `save_dir`."""

    save_dir: Path

    def at(self, run: RunId) -> Run:
        """Return the run of this name, whether or not it exists."""
        return Run.below(self.save_dir / "models", run)

    def create(self, experiment: str, run_name: str | None = None) -> Run:
        """Make the directories of a new run, named after the time by default; raises RunError as `check_writable`."""
        self.check_writable(experiment, run_name)
        with self._errors():
            if run_name is None:
                run = self._make_unique(experiment, time.strftime("%m%d_%H%M%S"))
            else:
                run = self.at(RunId(experiment, run_name))
                run.model_dir.mkdir(parents=True, exist_ok=True)
            run.log_dir.mkdir(parents=True, exist_ok=True)
        return run

    def check_writable(self, experiment: str, run_name: str | None = None) -> None:
        """Raise RunError when `create` would fail or nothing could be written there; leaves no directory behind."""
        with self._errors():
            self.check_free(experiment, run_name)
            run = self.at(RunId(experiment, run_name or "run"))
            for directory in (run.model_dir, run.log_dir):
                try_directory(directory if run_name is not None else directory.parent)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.save_dir}: a run cannot be written there: {error.filename}: {error.strerror}; set "
                "trainer.save_dir to another directory"
            ) from error

    def check_free(self, experiment: str, run_name: str | None = None) -> None:
        """Raise RunError when a run of the given name has files already, or a name cannot be a directory's."""
        for kind, name in (("experiment", experiment), ("run", run_name)):
            if name is not None and not is_safe_name(name):
                raise RunError(
                    f"{kind} name {name!r}: it names a directory, so it must not be empty, start with a dot, end with "
                    f"a dot or space, have more than {MAX_NAME_BYTES} bytes, or contain / \\ : or control characters"
                )
        if run_name is None:
            return
        run = self.at(RunId(experiment, run_name))
        used = next((path for path in (run.model_dir, run.log_dir) if _has_files(path)), None)
        if used is not None:
            raise RunError(
                f"run {run.id} exists already ({used}); to continue it give one of its checkpoints to --resume, "
                "to start a new run, choose another name"
            )

    def list(self) -> list[Run]:
        """All runs, by experiment and name."""
        return Run.all_below(self.save_dir / "models")

    def find(self, run: RunId) -> Run:
        """Return an existing run; RunError that names the nearest when there is none."""
        found = self.at(run)
        if not found.model_dir.is_dir():
            raise RunError(f"run {run}: not in {self.save_dir}{nearest(str(run), [str(r.id) for r in self.list()])}")
        return found

    def _make_unique(self, experiment: str, stamp: str) -> Run:
        number = 0
        while True:
            run = self.at(RunId(experiment, f"{stamp}_{number}" if number else stamp))
            run.model_dir.parent.mkdir(parents=True, exist_ok=True)
            try:
                run.model_dir.mkdir()
            except FileExistsError:
                number += 1
            else:
                return run


def _directories(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _checkpoint_names(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    names = (entry.name for entry in path.iterdir())
    return [name for name in names if name.endswith(CHECKPOINT_SUFFIX) and not name.startswith(".")]


def _has_files(path: Path) -> bool:
    """Whether a run's directory holds more than what a start writes that was killed before the first checkpoint."""
    return path.is_dir() and any(entry.name not in _FILES_OF_A_START for entry in path.iterdir())
