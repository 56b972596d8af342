"""The writer that stores nothing, and the base class of those that store only some kinds of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hw_asr.config.registry import WRITERS

if TYPE_CHECKING:  # results are written and reported without torch
    from torch import Tensor


@WRITERS.register("none")
class NullWriter:
    """Ignores all values."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore numbers."""

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Ignore rows."""

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Ignore a picture."""

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Ignore a distribution."""

    def state_dict(self) -> dict[str, object]:
        """Return an empty state."""
        return {}

    def close(self) -> None:
        """Do nothing."""
