"""Ctrl-C and SIGTERM: the first asks training to stop, the second ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STDERR = 2


class StopRequest:
    """Set by the first SIGINT or SIGTERM; the second ends the process at once. `announce`: print one line about it."""

    def __init__(self, announce: bool = True) -> None:
        self._announce = announce
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Return 130 after SIGINT, 143 after SIGTERM, as shells do; 143 when another process got the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle both signals for the length of the block."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = signal.Signals(number)
        # The handler may have interrupted a log call, which is not reentrant: write past all buffers.
        line = f"{self.signal.name}: finishing this step and saving; press Ctrl-C again to quit now\n"
        if self._announce:
            with suppress(OSError):
                os.write(STDERR, ("\n" + line if os.isatty(STDERR) else line).encode())
