"""The state that training changes step by step, and how a checkpoint stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hw_asr.training.average import WeightAverage
from hw_asr.training.progress import Progress
from hw_asr.training.schedule import Schedule
from hw_asr.training.step import TrainingStep


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
