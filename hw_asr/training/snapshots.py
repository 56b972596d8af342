"""Which checkpoints are written when, under which names, and which are removed."""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hw_asr.storage.runs import Run
from hw_asr.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)
LAST, BEST = "last", "model_best"
_EPOCH_NAME = re.compile(r"checkpoint-epoch(\d+)\.pth")


class Snapshots:
    """Writes `last`, `model_best` and `checkpoint-epochN`, keeps the newest `keep_last` of these.

    `export` is told of every file meant to outlive this machine.
    """

    def __init__(
        self,
        run: Run,
        *,
        save_period: int,
        keep_last: int | None,
        save_minutes: float | None,
        export: Callable[[Path], None],
    ) -> None:
        self._run = run
        self._save_period = save_period
        self._keep_last = keep_last
        self._interval = float("inf") if save_minutes is None else 60 * save_minutes
        self._export = export
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to write `last` inside an epoch."""
        return time.monotonic() - self._written >= self._interval

    def write_last(self, state: Mapping[str, Any]) -> Path:
        """Write the state to go on from; return its path."""
        path = self._run.checkpoint_path(LAST)
        save_checkpoint(state, path)
        self._written = time.monotonic()
        return path

    def write_epoch(self, state: Mapping[str, Any], epoch: int, *, best: bool) -> None:
        """Write `last`, and under further names what the epoch deserves."""
        copies = [self._run.checkpoint_path(BEST)] if best else []
        if epoch % self._save_period == 0:
            copies.append(self._run.checkpoint_path(f"checkpoint-epoch{epoch}"))
        save_checkpoint(state, self._run.checkpoint_path(LAST), *copies)
        self._written = time.monotonic()
        self._rotate()
        for path in copies or [self._run.checkpoint_path(LAST)]:
            self._export(path)

    def _rotate(self) -> None:
        if self._keep_last is None:
            return
        matches = [(int(m[1]), path) for path in self._run.checkpoints() if (m := _EPOCH_NAME.fullmatch(path.name))]
        for _, path in sorted(matches)[: -self._keep_last]:
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
            if other == path or other.name == f"{BEST}.pth":
                continue
            try:
                state = load_checkpoint(other)
            except CheckpointError:
                continue
            logger.warning("%s; going on from %s instead (epoch %s)", error, other, state.get("epoch"))
            return state, other
        raise


class StopRequest:
    """Set by the first SIGINT or SIGTERM; the second ends the process at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Return 130 after SIGINT, 143 after SIGTERM, as shells do."""
        return 128 + self.signal if self.signal else 0

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take over both signals for the length of the block."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = signal.Signals(number)
        logger.warning("%s: finishing this step and saving; once more ends at once", self.signal.name)
