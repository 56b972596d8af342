"""The state that training changes step by step: what a step adds to it, and how a checkpoint stores it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hw_asr.training.average import WeightAverage
from hw_asr.training.progress import Progress
from hw_asr.training.schedule import Schedule
from hw_asr.training.step import TrainingStep
from hw_asr.training.step_result import StepResult
from hw_asr.training.stream import Placed

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """A part of a run that a checkpoint can hold."""

    def state_dict(self) -> Any:
        """Return the state as tensors and plain data."""

    def load_state_dict(self, state: Any, /) -> object:
        """Restore a saved state."""


@dataclass
class Learner:
    """Model and optimiser (in `step`), learning-rate schedule, average of the weights, and progress."""

    step: TrainingStep
    schedule: Schedule
    average: WeightAverage
    progress: Progress

    def account(self, group: Sequence[Placed], result: StepResult) -> None:
        """Count a finished step; one that updated the model also advances the schedule and the average."""
        progress = self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        for failure in (failure for placed in group for failure in placed.batch.failures):
            name = failure.utterance.audio_path
            if name not in progress.failed:
                logger.warning("skipped %s: %s", name, failure.reason)
            progress.failed[name] = failure.reason
        progress.count("utterances without a CTC path", result.num_infeasible)
        if result.problem is not None:
            progress.count(f"steps skipped: {result.problem}")
            progress.bad_steps_in_row += 1
            return
        progress.bad_steps_in_row = 0
        progress.add(
            loss=result.loss_sum, utterances=result.num_utterances, grad_norm=result.grad_norm, steps=1,
            samples=sum(int(placed.batch.sample_lengths.sum()) for placed in group),
            padded=sum(placed.batch.samples.numel() for placed in group),
        )  # fmt: skip
        self.schedule.after_step()
        self.average.update()

    def parts(self) -> dict[str, Stateful]:
        """Return what is saved and restored beside the weights, by its key in a checkpoint."""
        return {
            "optimizer": self.step.optimizer,
            "lr_scheduler": self.schedule,
            "scaler": self.step.scaler,
            "progress": self.progress,
        }

    def state_dict(self) -> dict[str, object]:
        """Return the weights (`state_dict` is what is evaluated) and the state of every part."""
        return {**self.average.state_dict(), **{name: part.state_dict() for name, part in self.parts().items()}}

    def load_state_dict(self, state: Mapping[str, object], source: Path) -> None:
        """Restore weights and all parts; raises CheckpointError when the weights do not fit."""
        self.average.load_state_dict(state, source)
        for name, part in self.parts().items():
            if state[name]:  # empty for a part that was not in use: no schedule, no loss scaler
                part.load_state_dict(state[name])
