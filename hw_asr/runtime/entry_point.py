"""How every command runs and ends: terminals of any encoding, exit codes, output that is no longer read."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from typing import IO, NoReturn

INTERRUPTED = 130
NOBODY_READS = 141
"""128 and the number of the signal, as shells report a command that SIGINT, or SIGPIPE, has ended."""


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run the `main` of a command and exit with what it returns.

    `command | head` closes the pipe when it has seen enough. That is no fault: the command ends without a word, where
    Python would print a traceback, or a complaint about the bytes it could not get rid of. A pipe to something else
    that breaks, to a data worker for example, is a fault like any other.

    Characters that the terminal cannot show, and bytes of file names that are not text, are printed as escapes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            code = main()
        finally:
            if sys.stdout is not None:  # it is None when the command was started with it closed
                sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and not _is_read(stream)]
        if not unread:
            raise
        for stream in unread:  # what it still holds is written once more when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = NOBODY_READS
    sys.exit(code)


def _is_read(stream: IO[str]) -> bool:
    """Whether the other end of a pipe is open; what is no pipe counts as read."""
    if not hasattr(select, "poll"):  # Windows, where a pipe that nobody reads is another error
        return True
    pipe = select.poll()
    pipe.register(stream.fileno(), 0)
    return not pipe.poll(0)
