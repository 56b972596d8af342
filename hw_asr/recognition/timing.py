"""Where the time of a recognition goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Seconds:
    """Seconds of audio and of work."""

    audio: float = 0.0
    """Duration of what was recognised."""
    model: float = 0.0
    """Features, network and silence detection."""
    decoding: dict[str, float] = field(default_factory=dict)
    """By decoder."""


class Timed:
    """Passes arrays on and counts the seconds spent on waiting for them."""

    def __init__(self, arrays: Iterable[NDArray[np.float32]]) -> None:
        self._arrays = iter(arrays)
        self.seconds = 0.0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self

    def __next__(self) -> NDArray[np.float32]:
        start = time.perf_counter()
        try:
            return next(self._arrays)
        finally:
            self.seconds += time.perf_counter() - start
