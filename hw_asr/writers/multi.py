"""Several writers as one; a writer that fails does not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hw_asr.writers.background import BackgroundWriter
from hw_asr.writers.base import Writer

if TYPE_CHECKING:  # results are written and reported without torch
    from torch import Tensor

logger = logging.getLogger(__name__)


class MultiWriter:
    """Passes every call to each of `writers`. One that raises (disk full, no network) is disabled with a warning.

    A disabled writer is not closed, because closing it could block.
    """

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = list(writers)
        self._state: dict[str, object] = {}
        self.state_dict()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers under their names."""
        self._each(lambda writer: writer.scalars(step, values))

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Log rows of plain values and AudioClips."""
        self._each(lambda writer: writer.table(step, name, columns, rows))

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log a picture, (H, W, 3) uint8."""
        self._each(lambda writer: writer.image(step, name, pixels))

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Log the distribution of a tensor of any shape."""
        self._each(lambda writer: writer.histogram(step, name, values))

    def state_dict(self) -> dict[str, object]:
        """Return the states of all writers in one mapping; of a disabled one, its last state.

        When the run is resumed, each writer reads its own keys.
        """
        self._each(lambda writer: self._state.update(writer.state_dict()))
        return dict(self._state)

    def close(self) -> None:
        """Close every writer that is not disabled."""
        self._each(lambda writer: writer.close())
        self._writers = []

    def _each(self, action: Callable[[Writer], None]) -> None:
        for writer in list(self._writers):
            try:
                action(writer)
            except Exception as error:
                self._writers.remove(writer)
                name = type(writer.writer if isinstance(writer, BackgroundWriter) else writer).__name__
                reason = f"{type(error).__name__}: {error}"
                logger.warning("%s failed and is disabled for the rest of this run: %s", name, reason)
