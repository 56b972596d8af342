"""Archives to directories: nothing leaves the target, and the target appears only when it is whole."""

from __future__ import annotations

import errno
import glob
import lzma
import os
import secrets
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import sync_directory
from hw_asr.runtime.printable import printable_line

_SUFFIX = ".unpacking"
_HEADER_BYTES = 512
_MIN_ROOM, _MAX_RATIO = 1 << 30, 200
_BLOCK = 1 << 20
_ARCHIVE_ERRORS = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError,
    OverflowError, NotImplementedError, LookupError, TypeError,
)  # fmt: skip


class UnpackError(UserError):
    """An archive cannot, or must not, be unpacked; nothing of it is left behind."""


class _Room:
    """How many bytes an archive may still unpack to: far more than any corpus needs, far less than a bomb has."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._left = max(_MIN_ROOM, _MAX_RATIO * archive.stat().st_size)

    def take(self, num_bytes: int) -> None:
        """Count bytes that are about to be written. Raises UnpackError when they are too many."""
        self._left -= num_bytes
        if self._left < 0:
            raise UnpackError(f"{self._archive}: refused: it unpacks to more than {_MAX_RATIO} times its size")


def unpack(archive: Path, directory: Path, *, inside: str = "") -> None:
    """Unpack a tar (gz, bz2, xz) or zip so that what it holds under `inside` becomes `directory`.

    The files are written to a hidden directory of a random name beside it, which is then renamed. Archives with links,
    devices, absolute paths or `..`, and those that unpack to far more than their size, are refused.
    Raises UnpackError when that is so, when the archive is damaged, has no `inside`, or the disk is full.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*{_SUFFIX}"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed; callers hold a lock
    target = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}{_SUFFIX}")
    target.mkdir()
    room = _Room(archive)
    try:
        members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
        bar = tqdm(members, printable_line(f"unpacking {archive.name}"), unit=" files", delay=2, disable=None)
        for name, source in bar:
            room.take(_HEADER_BYTES)
            _write(archive, target, name, source, room)
        unpacked = target / inside
        if not unpacked.is_dir() or (not inside and not any(unpacked.iterdir())):
            raise UnpackError(f"{archive}: has no directory {inside!r}" if inside else f"{archive}: is empty")
        unpacked.replace(directory)
        sync_directory(directory.parent)
    except _ARCHIVE_ERRORS as error:
        raise UnpackError(f"{archive}: damaged, or not an archive: {error}; delete it to download it again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnpackError(
                f"{archive}: the disk is full while unpacking to {directory.parent}; free space"
            ) from error
        raise UnpackError(f"{archive}: damaged, or cannot be unpacked to {directory}: {error}") from error
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isdir():
                _safe(archive, member.name)
                continue
            source = tar.extractfile(member) if member.isfile() else None
            if source is None:
                raise UnpackError(f"{archive}: refused: {member.name!r} is a link or a device, not a file")
            with source:
                yield member.name, source


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnpackError(f"{archive}: refused: {member.filename!r} is a link or a device, not a file")
            if member.is_dir():
                _safe(archive, member.filename)
                continue
            with zipped.open(member) as source:
                yield member.filename, source


def _write(archive: Path, target: Path, name: str, source: IO[bytes], room: _Room) -> None:
    path = target / _safe(archive, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        _copy(source, file, room)


def _copy(source: IO[bytes], file: IO[bytes], room: _Room) -> None:
    while block := source.read(_BLOCK):
        room.take(len(block))
        file.write(block)


def _safe(archive: Path, name: str) -> PurePosixPath:
    """Return a member's name as a relative path; raises UnpackError when it leads elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (os.name == "nt" and ":" in name):
        raise UnpackError(f"{archive}: refused: {name!r} would be written outside the target directory")
    return path
