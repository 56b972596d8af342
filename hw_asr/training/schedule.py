"""The learning-rate schedule of a run: when it advances, and how it is set to a position."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hw_asr.training.progress import Progress


class Schedule:
    """Advances `scheduler` after every step, or after every epoch; None leaves the learning rate constant.

    ReduceLROnPlateau always advances per epoch, with the monitored value.
    """

    def __init__(self, scheduler: LRScheduler | None, *, per_epoch: bool = False) -> None:
        self._scheduler = scheduler
        self.per_epoch = per_epoch

    def after_step(self) -> None:
        """Advance a schedule that counts steps."""
        if self._scheduler is not None and not self.per_epoch:
            self._scheduler.step()

    def after_epoch(self, monitored: float | None) -> None:
        """Advance a schedule that counts epochs; `monitored` is the value for ReduceLROnPlateau."""
        if self._scheduler is None or not self.per_epoch:
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            assert monitored is not None, "validation refuses ReduceLROnPlateau without a monitor"
            self._scheduler.step(monitored)
        else:
            self._scheduler.step()

    def place(self, progress: Progress, steps_per_epoch: int) -> int:
        """Return how often the schedule has advanced in a run with this progress."""
        done = progress.epoch - 1
        in_epoch = min(progress.step_in_epoch, steps_per_epoch)  # epochs may have become shorter
        return done if self.per_epoch else done * steps_per_epoch + in_epoch

    def advance_to(self, position: int) -> None:
        """Advance a new schedule by `position` steps (or epochs)."""
        if self._scheduler is None or isinstance(self._scheduler, ReduceLROnPlateau):
            return
        with warnings.catch_warnings():  # torch expects a step of the optimiser before each of these
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(position):
                self._scheduler.step()

    def state_dict(self) -> dict[str, object] | None:
        """Return the scheduler's state; None when there is no scheduler."""
        return None if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore a saved state."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(dict(state))
