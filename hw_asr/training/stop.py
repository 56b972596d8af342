"""Ctrl-C and SIGTERM: the first asks training to stop, the second ends it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STDERR = 2
ENDING = (signal.SIGINT, signal.SIGTERM)


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
        """Handle both signals for the length of the block, and after it if one has come: the next ends the process."""
        previous = {number: signal.signal(number, self._receive) for number in ENDING}
        stop_watching = _end_at_second_signal()
        try:
            yield self
        finally:
            if self.signal is None:
                stop_watching()
                for number, handler in previous.items():
                    signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # The system's own handling ends the process wherever it is: in a library, in Python's shutdown, in a callback
        # where an exception would be lost. Workers end with their parent.
        for ending in ENDING:
            signal.signal(ending, signal.SIG_DFL)
        self.signal = signal.Signals(number)
        # The handler may have interrupted a log call, which is not reentrant: write past all buffers.
        line = f"{self.signal.name}: finishing this step and saving; press Ctrl-C again to quit now\n"
        if self._announce:
            with suppress(OSError):
                os.write(STDERR, ("\n" + line if os.isatty(STDERR) else line).encode())


def _end_at_second_signal() -> Callable[[], None]:
    """End the process when both signals come during one call into a library; return what undoes this.

    Python runs its handlers between bytecodes only: a step of a large model would delay the first one for seconds, and
    would hide the second. The interpreter writes the number of each signal that has a handler to a socket at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        count = 0
        while numbers := reader.recv(1):
            count += numbers[0] in ENDING
            if count == 2:
                os._exit(128 + numbers[0])
        reader.close()

    def undo() -> None:
        signal.set_wakeup_fd(before)
        writer.close()

    threading.Thread(target=watch, name="signal watch", daemon=True).start()
    return undo
