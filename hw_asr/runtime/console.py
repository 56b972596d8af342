"""The terminal: log lines that do not break progress bars, and aligned tables."""

from __future__ import annotations

import copy
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hw_asr.runtime.atomic_files import open_regular
from hw_asr.runtime.printable import printable, printable_line

ERRORS_ONLY = -1
LEVELS = {ERRORS_ONLY: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class _BarFriendlyHandler(logging.Handler):
    """Writes above progress bars instead of through them.

    Errors of the stream are ignored: a run does not end because its terminal is gone or `| head` has exited.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging(verbosity: int, log_path: Path | None = None) -> None:
    """Send the project's log lines to the terminal from `verbosity` on, and all of them to `log_path`."""
    logger = logging.getLogger("hw_asr")
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    terminal = _BarFriendlyHandler(LEVELS[verbosity])
    terminal.setFormatter(_LineFormatter())
    logger.addHandler(terminal)
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    warnings.handlers = [terminal]
    warnings.propagate = False
    if log_path is not None:
        file = _LogFile(log_path, encoding="utf-8")
        file.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
        warnings.addHandler(file)


class _LogFile(logging.FileHandler):
    """A log file that is not written through a link. Lines that a full disk refuses are left out, with one warning."""

    _complete = True

    def _open(self) -> Any:
        return open_regular(Path(self.baseFilename), "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is that of logging)
        """Report the first line that cannot be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self._complete:
            self._complete = False
            logging.getLogger("hw_asr").warning("cannot write %s: %s", self.baseFilename, error.strerror)


class _SafeFormatter(logging.Formatter):
    """Escapes control characters; in arguments newlines too, so that a file name cannot forge a log line."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = copy.copy(record)
            record.args = tuple(
                printable_line(str(argument)) if isinstance(argument, (str, Path)) else argument
                for argument in record.args or ()
            )
        return printable(super().format(record))


class _LineFormatter(_SafeFormatter):
    """Bare messages, warnings and errors marked as such."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


def aligned(rows: list[list[str]]) -> str:
    """Lay rows of cells out in columns: the first one left-, the others right-aligned; control characters escaped."""
    rows = [[printable_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            f"{cell:<{width}}" if not index else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)
