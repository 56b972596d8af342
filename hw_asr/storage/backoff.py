"""Waiting between attempts: exponential, with jitter, bounded."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hw_asr.storage.external import StorageUnavailable

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass
class Backoff:
    """Counts failures in a row and waits after each, between half and all of `first_wait * 2**n` seconds."""

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 32.0
    wait: Callable[[float], object] = time.sleep
    failures: int = 0

    def failed(self, error: StorageUnavailable) -> None:
        """Wait for the next attempt; raises `error` again when there were enough."""
        self.failures += 1
        if self.failures >= self.attempts:
            raise error
        longest = min(self.first_wait * 2 ** (self.failures - 1), self.longest_wait)
        seconds = max(random.uniform(longest / 2, longest), min(error.retry_after, self.longest_wait))
        logger.info("%s; attempt %d of %d in %.1f s", error, self.failures + 1, self.attempts, seconds)
        self.wait(seconds)

    def progressed(self) -> None:
        """Start counting again: something went through."""
        self.failures = 0

    def retry(self, operation: Callable[[], T], on: tuple[type[StorageUnavailable], ...] = (StorageUnavailable,)) -> T:
        """Return what `operation` returns, repeating it while it raises one of `on`."""
        while True:
            try:
                return operation()
            except on as error:
                self.failed(error)
