"""Files that appear under their names only when they are whole, and that are never written through a link."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_MAX_NAME_BYTES = 230
"""File names have at most 255 bytes on most systems."""
OWNER_ONLY = 0o600
"""Permissions of files that hold secrets."""


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside `path` that nobody can guess: `.NAME.RANDOM.part`, a long NAME shortened."""
    name = os.fsdecode(os.fsencode(path.name)[:_MAX_NAME_BYTES])
    return path.with_name(f".{name}.{secrets.token_hex(8)}.part")


@contextmanager
def write_and_rename(path: Path, mode: str = "wb", permissions: int = 0o666) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; at the end sync it to disk and rename it to `path`.

    The file is new (O_EXCL) and gets `permissions`, less the umask, from the start. If `path` is a link, the link is
    replaced, not its target; a directory or a device is not replaced: OSError. When the block raises, `path` stays as
    it was and the temporary file is removed. A process that is killed leaves at most a `.NAME.RANDOM.part` file behind.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_path(path)

    def create(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_EXCL | _NO_LINKS, permissions)

    try:
        with open(part, mode, encoding=None if "b" in mode else "utf-8", opener=create) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def check_replaceable(path: Path) -> None:
    """Raise OSError for a directory or a device, such as /dev/full or /dev/stdout, that a file must not replace."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing there, or a name that no file can have: creating it tells
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or path.absolute().parent == Path("/dev"):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def open_regular(path: Path, mode: str, encoding: str | None = None, buffering: int = -1) -> IO[Any]:
    """Open a file in place, to append or to update it.

    Raises OSError if it is a link, a device, a named pipe or anything else but a regular file.
    """

    def open_checked(name: str, flags: int) -> int:
        truncates = flags & os.O_TRUNC
        try:
            descriptor = os.open(name, (flags & ~os.O_TRUNC) | _NO_LINKS, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
                raise _not_regular(path) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _not_regular(path)
        if truncates:
            os.ftruncate(descriptor, 0)
        return descriptor

    return open(path, mode, buffering, encoding=encoding, opener=open_checked)


def sync_directory(path: Path) -> None:
    """Make renames inside a directory durable, where the system (POSIX) and the file system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts; the file itself is on the disk
            raise
    finally:
        os.close(descriptor)


def _not_regular(path: Path) -> OSError:
    return OSError(errno.ELOOP, "is a link or not a regular file, and is not written to; remove it", str(path))
