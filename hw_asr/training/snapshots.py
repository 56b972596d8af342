"""When checkpoints are written, under which names, and which are removed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.writing import link_checkpoint, save_checkpoint
from hw_asr.storage.runs import Run

logger = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last", "previous", "model_best"
_EPOCH_NAME = re.compile(r"checkpoint-epoch(\d+)\.pth")


@dataclass(frozen=True)
class SavePolicy:
    """When checkpoints are written and which are kept; see the keys of the same names in `trainer`."""

    save_period: int = 1
    keep_last: int | None = None
    keep_every: int | None = None
    save_minutes: float | None = None
    save_steps: int | None = None
    export_minutes: float = 15.0


class Snapshots:
    """Writes `last`, `model_best` and `checkpoint-epochN`, and removes old ones.

    A run continues from `last`. It is always the last name to change, so that work interrupted by a kill is done again.
    Its previous version stays as `previous`, in case the file is damaged. `state_of` returns the current checkpoint;
    `export` is called with every file that should leave this machine, and its optimiser step.
    """

    def __init__(
        self,
        run: Run,
        state_of: Callable[[], Mapping[str, object]],
        policy: SavePolicy,
        export: Callable[[Path, int], None] = lambda path, step: None,
    ) -> None:
        self._run = run
        self._state_of = state_of
        self._policy = policy
        self._export = export
        self._step = 0  # of `last`
        self._written = self._exported = time.monotonic()
        self.seconds = 0.0
        """Time spent in writing."""
        for part in run.model_dir.glob(".*.part"):
            part.unlink()  # of a process that was killed while writing

    @property
    def last_path(self) -> Path:
        """The checkpoint to continue from."""
        return self._path(LAST)

    def due(self, step: int) -> bool:
        """Whether it is time to write `last` inside an epoch, after step `step`."""
        steps, minutes = self._policy.save_steps, self._policy.save_minutes
        by_steps = steps is not None and step % steps == 0
        return by_steps or (minutes is not None and time.monotonic() - self._written >= 60 * minutes)

    def write_first(self, source: Path, *, is_set_back: bool = False) -> None:
        """Make `last` the state that training starts with, read from `source`, or from nowhere, if it is not yet.

        `is_set_back` when the storage has a later state, which was given up: it gets this one at once.
        """
        if source != self.last_path:
            self.write_last(keep_previous=source != self._path(PREVIOUS))  # `last` is damaged if that one was read
        if is_set_back:
            self._step = _step_of(self._state_of())
            self.export_last()

    def write_last(self, *, keep_previous: bool = True) -> None:
        """Write the state to continue from."""
        start = time.monotonic()
        if keep_previous:
            self._keep_previous()
        state = self._state_of()
        save_checkpoint(state, self._path(LAST))
        self._note(start, state)
        if time.monotonic() - self._exported >= 60 * self._policy.export_minutes:
            self._export_now([self._path(LAST)], state)

    def write_epoch(self, epoch: int, *, best: bool) -> None:
        """Write the state as the checkpoint of the epoch, as the best if it is, and as `last`."""
        names = [BEST] if best else []
        if epoch % self._policy.save_period == 0:
            names.append(f"checkpoint-epoch{epoch}")
        if not names:
            self.write_last()
            return
        start = time.monotonic()
        paths = [self._path(name) for name in names]
        state = self._state_of()
        save_checkpoint(state, *paths)
        self._rotate(epoch)
        self._keep_previous()
        link_checkpoint(paths[0], self._path(LAST))
        self._note(start, state)
        self._export_now(paths, state)

    def export_last(self) -> None:
        """Export the state to continue from, at the end of training; content that was exported is not sent again."""
        if self._path(LAST).is_file():
            self._export(self._path(LAST), self._step)

    def _export_now(self, paths: Sequence[Path], state: Mapping[str, object]) -> None:
        self._exported = time.monotonic()
        for path in paths:
            self._export(path, _step_of(state))

    def _path(self, name: str) -> Path:
        return self._run.checkpoint_path(name)

    def _note(self, start: float, state: Mapping[str, object]) -> None:
        self._written = time.monotonic()
        self._step = _step_of(state)
        self.seconds += self._written - start

    def _keep_previous(self) -> None:
        if self._path(LAST).is_file():
            link_checkpoint(self._path(LAST), self._path(PREVIOUS))

    def _rotate(self, current: int) -> None:
        """Remove old checkpoints of epochs; later ones are there if the run was continued from an older checkpoint."""
        keep_last, keep_every = self._policy.keep_last, self._policy.keep_every
        if keep_last is None:
            return
        matches = [(int(m[1]), path) for path in self._run.checkpoints() if (m := _EPOCH_NAME.fullmatch(path.name))]
        for epoch, path in sorted(match for match in matches if match[0] <= current)[:-keep_last]:
            if keep_every is None or epoch % keep_every:
                path.unlink()


def _step_of(state: Mapping[str, Any]) -> int:
    return int(state["progress"]["step"])


def load_newest_whole(path: Path) -> tuple[dict[str, Any], Path]:
    """Load a checkpoint. When it is damaged, warn and fall back to the newest intact one of its directory.

    Raises CheckpointError when there is none.
    """
    try:
        return load_checkpoint(path), path
    except CheckpointError as error:
        if not path.is_file():
            raise
        for other in reversed(Run.of_checkpoint(path).checkpoints()):
            if other.samefile(path):
                continue
            try:
                state = load_checkpoint(other)
            except CheckpointError:
                continue
            logger.warning("%s; continuing from %s instead (step %s)", error, other, num_steps(state))
            return state, other
        raise


def num_steps(state: Mapping[str, object]) -> int:
    """Return the optimiser steps of a loaded checkpoint; 0 if it does not say."""
    progress = state.get("progress")
    steps = progress.get("step") if isinstance(progress, Mapping) else None
    return steps if isinstance(steps, int) else 0
