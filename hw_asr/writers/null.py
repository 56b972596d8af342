"""The writer that keeps nothing, and the base of those that keep only a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hw_asr.config.registry import WRITERS


@WRITERS.register("none")
class NullWriter:
    """Accepts what a run reports and forgets it."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Forget numbers."""

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Forget rows."""

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Forget a picture."""

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Forget a distribution."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is nothing to go on from."""
        return {}

    def close(self) -> None:
        """End."""
