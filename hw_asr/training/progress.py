"""The state of a run beside weights, optimiser and schedule: counters, and the place in the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hw_asr.training.monitor import Monitor


@dataclass
class Progress:
    """Plain numbers, saved in every checkpoint.

    An epoch is the training between two evaluations; a pass is one iteration over the training data. They are the
    same unless `len_epoch` is given.
    """

    epoch: int = 1
    """The current epoch, from 1."""
    step: int = 0
    """Optimiser steps since the beginning, skipped ones included."""
    step_in_epoch: int = 0
    data_pass: int = 0
    batch_in_pass: int = 0
    num_processes: int = 1
    """Processes that share a pass, each with as many batches; positions are in batches of one process."""
    best: float | None = None
    """Best value of the monitored metric."""
    epochs_without_improvement: int = 0
    bad_steps_in_row: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Skipped steps, recordings and utterances by reason, over the whole run."""
    failed: dict[str, str] = field(default_factory=dict)
    """Recordings that could not be decoded, with the reason."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums since the last log line."""

    def count(self, reason: str, number: int = 1) -> None:
        """Add to a counter of the run."""
        if number:
            self.counts[reason] = self.counts.get(reason, 0) + number

    def add(self, **values: float) -> None:
        """Add to the sums of the window."""
        for name, value in values.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def judge(self, monitor: Monitor | None, values: Mapping[str, float]) -> bool:
        """Return whether an evaluation is the best so far, and remember it. Without a monitor none is."""
        if monitor is None:
            return False
        if monitor.improved(values, self.best):
            self.best, self.epochs_without_improvement = values[monitor.key], 0
            return True
        self.epochs_without_improvement += 1
        return False

    def share_among(self, num_processes: int, steps_per_pass: int | None = None, batches_per_step: int = 1) -> None:
        """Continue with another number of processes, from the same place in the pass.

        Where the place does not divide, the batches of less than one step are seen twice. `steps_per_pass`, of the new
        processes, is given when an epoch is a pass; the number of steps in it is converted as well.
        """
        before, self.num_processes = self.num_processes, num_processes
        if before == num_processes:
            return
        if steps_per_pass is None:
            self.batch_in_pass = self.batch_in_pass * before // num_processes
        elif self.batch_in_pass == 0 and self.step_in_epoch > 0:  # all steps are done, but not the evaluation
            self.step_in_epoch = steps_per_pass
        else:
            self.step_in_epoch = self.step_in_epoch * before // num_processes
            self.batch_in_pass = self.step_in_epoch * batches_per_step

    def state_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore saved values."""
        for name, value in state.items():
            setattr(self, name, value)


def mix_seed(*parts: int) -> int:
    """Return a 63-bit seed of several integers: a random stream for each (seed, pass, batch, rank).

    Nothing has to be saved or replayed to restore it (splitmix64, Steele et al. 2014).
    """
    mask = (1 << 64) - 1
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1
