"""How every command runs and ends: terminals of any encoding, exit codes, output that is no longer read."""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, NoReturn, TextIO, cast

from hw_asr.runtime.printable import PrintableStream

INTERRUPTED = 130
OUTPUT_CLOSED = 141
"""128 plus the number of the signal, as shells report a command ended by SIGINT or SIGPIPE."""


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run the `main` of a command and exit with what it returns.

    `command | head` closes the pipe early. The command then exits with 141 and prints nothing, where Python would print
    a traceback or a warning about unwritten output. A broken pipe to anything else, such as a data worker, is an error.

    Characters that the terminal cannot show, control characters of file names and messages, and bytes of file names
    that are not text, are printed as escapes.
    """
    streams = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout is not None:  # it is None when the command was started with it closed
        sys.stdout = cast(TextIO, PrintableStream(sys.stdout))
    if sys.stderr is not None:
        sys.stderr = cast(TextIO, PrintableStream(sys.stderr, bars=True))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            code = main()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and not _is_open(stream)]
        if not closed:
            raise
        for stream in closed:  # the interpreter flushes its buffer again on exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = OUTPUT_CLOSED
    sys.stdout, sys.stderr = streams
    gc.freeze()  # otherwise the interpreter searches all objects for garbage on exit, 0.3 s with torch
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; the next Ctrl-C ends the process at once, also while this one is being handled."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _is_open(stream: IO[str]) -> bool:
    """Whether the reading end of a pipe is open; other streams count as open."""
    if not hasattr(select, "poll"):  # Windows, where a closed pipe raises another error
        return True
    pipe = select.poll()
    pipe.register(stream.fileno(), 0)
    return not pipe.poll(0)
