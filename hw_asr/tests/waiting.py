"""Waiting for what other threads or processes do, with a deadline that only a hang exceeds."""

import os
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 300.0
"""Seconds; generous, because the machine may be busy."""


def wait_until(
    condition: Callable[[], object], description: Callable[[], str] = lambda: "", seconds: float = DEADLINE
) -> None:
    """Return as soon as `condition` is true; raise AssertionError with the description after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain {description()}")
        time.sleep(0.002)


def is_running(process: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        os.kill(process, 0)
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # just ended, or a system without /proc
        return Path("/proc/self").exists() is False
