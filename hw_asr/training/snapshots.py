"""Which checkpoints are written when, under which names, and which are removed."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.writing import link_checkpoint, save_checkpoint
from hw_asr.storage.runs import Run

logger = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last", "previous", "model_best"
_EPOCH_NAME = re.compile(r"checkpoint-epoch(\d+)\.pth")


class Snapshots:
    """Writes `last`, `model_best` and `checkpoint-epochN`; keeps the newest `keep_last` of these, and every
    `keep_every`-th.

    `last` is what a run goes on from, and always the last name to change: whatever a kill interrupts is done again.
    What it was before stays as `previous`, in case the file is damaged. `state_of` returns the checkpoint of the
    moment; `export` is told of every file meant to outlive this machine.
    """

    def __init__(
        self,
        run: Run,
        state_of: Callable[[], Mapping[str, Any]],
        *,
        save_period: int = 1,
        keep_last: int | None = None,
        keep_every: int | None = None,
        save_minutes: float | None = None,
        save_steps: int | None = None,
        export: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._run = run
        self._state_of = state_of
        self._save_period = save_period
        self._keep_last, self._keep_every = keep_last, keep_every
        self._interval = float("inf") if save_minutes is None else 60 * save_minutes
        self._save_steps = save_steps
        self._export = export
        self._written = time.monotonic()
        self.seconds = 0.0
        """Time spent in writing."""
        for part in run.model_dir.glob(".*.part"):
            part.unlink()  # of a process that was killed while it wrote

    @property
    def last_path(self) -> Path:
        """The checkpoint to go on from."""
        return self._path(LAST)

    def due(self, step: int) -> bool:
        """Whether it is time to write `last` inside an epoch, after step `step`."""
        by_steps = self._save_steps is not None and step % self._save_steps == 0
        return by_steps or time.monotonic() - self._written >= self._interval

    def write_last(self) -> None:
        """Write the state to go on from."""
        start = time.monotonic()
        self._keep_previous()
        save_checkpoint(self._state_of(), self._path(LAST))
        self._note(start)

    def write_epoch(self, epoch: int, *, best: bool) -> None:
        """Write the state under the names that the epoch deserves, and as `last`."""
        names = [BEST] if best else []
        if epoch % self._save_period == 0:
            names.append(f"checkpoint-epoch{epoch}")
        if not names:
            self.write_last()
            return
        start = time.monotonic()
        paths = [self._path(name) for name in names]
        save_checkpoint(self._state_of(), *paths)
        self._rotate()
        self._keep_previous()
        link_checkpoint(paths[0], self._path(LAST))
        self._note(start)
        for path in paths:
            self._export(path)

    def _path(self, name: str) -> Path:
        return self._run.checkpoint_path(name)

    def _note(self, start: float) -> None:
        self._written = time.monotonic()
        self.seconds += self._written - start

    def _keep_previous(self) -> None:
        if self._path(LAST).is_file():
            link_checkpoint(self._path(LAST), self._path(PREVIOUS))

    def _rotate(self) -> None:
        if self._keep_last is None:
            return
        matches = [(int(m[1]), path) for path in self._run.checkpoints() if (m := _EPOCH_NAME.fullmatch(path.name))]
        for epoch, path in sorted(matches)[: -self._keep_last]:
            if self._keep_every is None or epoch % self._keep_every:
                path.unlink()


def load_newest_whole(path: Path) -> tuple[dict[str, Any], Path]:
    """Load a checkpoint; when it is damaged, fall back to the newest whole one of its directory, loudly.

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
            step = (state.get("progress") or {}).get("step", "unknown")
            logger.warning("%s; going on from %s instead (step %s)", error, other, step)
            return state, other
        raise
