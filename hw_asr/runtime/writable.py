"""Whether files can be made in a directory, found by making one."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def is_writable(directory: Path) -> bool:
    """Whether files can be made in a directory, which is made for the trial if it is missing."""
    try:
        try_directory(directory)
    except OSError:
        return False
    return True


def try_directory(directory: Path) -> None:
    """Make a directory and a file in it, and remove again what was made. Raises OSError where that fails."""
    directory = directory.absolute()
    made: list[Path] = []
    try:
        for path in (*reversed(directory.parents[:-1]), directory):
            try:
                path.mkdir()
                made.append(path)
            except FileExistsError:
                if not path.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        with tempfile.TemporaryFile(dir=directory):
            pass
    finally:
        for path in reversed(made):
            with suppress(OSError):  # another process uses it by now
                path.rmdir()
