"""Waiting for something that other threads or processes do, but never for ever."""

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], what: Callable[[], str] = lambda: "", seconds: float = 60) -> None:
    """Return as soon as `is_true` says so. Raises AssertionError, with what `what` says, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain {what()}")
        time.sleep(0.002)
