"""Opening recordings: regular files only, and with a limit on what a demuxer reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from hw_asr.datasets.recording import AudioError

_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
MAX_READS_OF_A_FILE = 100
"""How often a demuxer may read a file: each of many small, scattered packets may need a read of 64 kB."""
MIN_READ_LIMIT = 64 << 20


def open_recording(path: Path) -> BinaryIO:
    """Open a regular file, unbuffered; a FIFO or a device is not waited for.

    Raises AudioError for a file that is missing, empty, not regular or not readable.
    """
    try:
        file = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115  # the caller closes it
        status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise AudioError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file; expected a recording"
    elif status.st_size == 0:
        problem = "the file is empty"
    if problem is not None:
        file.close()
        raise AudioError(f"{path}: {problem}")
    return file


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAITING)


class BoundedFile:
    """A file as FFmpeg reads it, up to a limit: a demuxer that does not terminate finds the end of the file.

    Nothing raises: PyAV prints exceptions that it has no use for.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._remaining = max(MIN_READ_LIMIT, MAX_READS_OF_A_FILE * os.fstat(file.fileno()).st_size)
        file.seek(0)

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit was reached."""
        return self._remaining < 0

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none past the limit."""
        self._remaining -= size
        try:
            return b"" if self.is_exhausted else self._file.read(size)
        except OSError:
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another position; return it, or -1 for an invalid one."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()
