"""The protocol of writers, the backends that metrics are logged to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # results are written and reported without torch
    from torch import Tensor


class AudioClip(NamedTuple):
    """A table cell with audio: `samples` (T,) float in [-1, 1]."""

    samples: Tensor
    sample_rate: int


class LoggedRun(NamedTuple):
    """The training run that a writer logs."""

    name: str
    log_dir: Path
    """Directory for the writer's files."""
    experiment: str | None = None
    """Name of the group of runs that this one belongs to."""
    config: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    """What `state_dict` of all writers returned for the checkpoint that the run is resumed from; None for a new run."""


class Writer(Protocol):
    """A logging backend. The step is an argument of every call, not state."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers under their names."""

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Log rows of plain values and AudioClips."""

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log a picture, (H, W, 3) uint8."""

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Log the distribution of a tensor of any shape."""

    def state_dict(self) -> dict[str, object]:
        """Return what a resumed run needs to continue the log, as plain data."""

    def close(self) -> None:
        """Write everything and close."""
