"""A file lock that the kernel releases when the process ends, also after kill -9."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw_asr.runtime.atomic_files import open_regular

LOCK_NAME = ".lock"
_LOCKED_BYTE = 1 << 20  # beyond the text of the file: on Windows a locked byte cannot be read
_held: set[Path] = set()
logger = logging.getLogger(__name__)


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock of this file, which names its holder and is never deleted.

    Raises BlockingIOError(errno, holder) when another process, or this one, has it, and OSError when the file is a link
    or has a second name: writing the holder into it would overwrite somebody's file. A POSIX record lock, not flock():
    children made by fork (data workers) do not keep it alive after their parent was killed.
    """
    path = path.parent.resolve() / path.name
    me = f"process {os.getpid()} on {socket.gethostname()}"
    if path in _held:  # record locks do not exclude their own process
        raise BlockingIOError(errno.EAGAIN, me)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(path, "a+", encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            raise OSError(errno.EMLINK, "has a second name (a hard link), and is not written to; remove it", str(path))
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                file.seek(0)
                raise BlockingIOError(errno.EAGAIN, file.read(1000).strip() or "another process") from None
            logger.warning("%s: this file system has no locks (%s); keep other processes away", path, error.strerror)
        file.truncate(0)
        file.write(me + "\n")
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)  # closing the file releases the lock


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKED_BYTE)
