"""The files below a directory: their names, and whether one of them has changed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_BY_DESCRIPTOR = hasattr(os, "O_DIRECTORY") and os.scandir in os.supports_fd


def fingerprint(path: Path) -> str:
    """Return a digest of names, sizes and modification times: of a file, or of all files under a directory."""
    digest = hashlib.sha1(_line("", path.stat()).encode() if path.is_file() else b"", usedforsecurity=False)
    for name, entries in _directories(path) if path.is_dir() else ():
        lines = [f"{name}\n", *[_line(entry.name, _stat(entry)) for entry in entries]]
        digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def files_under(directory: Path, extension: str = "") -> list[Path]:
    """Return the files under a directory whose names end in `extension` (lower case), sorted by name.

    Links are followed. Hidden files, dangling links, and what cannot be opened or followed are left out.
    """
    return sorted(
        directory / name / entry.name
        for name, entries in _directories(directory)
        for entry in entries
        if entry.name.lower().endswith(extension)
    )


def _directories(top: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield each directory from `top` downwards, by its relative path, with its files; hidden names are left out.

    The entries' `stat` may be called until the next directory is yielded.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        name, above = waiting.pop()
        try:
            with _opened(top / name) as place:
                stat = place.stat() if isinstance(place, Path) else os.fstat(place)
                identity = stat.st_dev, stat.st_ino
                if identity in above:  # a link to a directory it lies in
                    continue
                with os.scandir(place) as scanned:
                    entries = sorted((entry for entry in scanned if entry.name[0] != "."), key=lambda entry: entry.name)
                kinds = [_kind(entry, top / name) for entry in entries]
                below = [entry.name for entry, kind in zip(entries, kinds, strict=True) if kind == "directory"]
                waiting += [(f"{name}{directory}/", above | {identity}) for directory in below]
                yield name, [entry for entry, kind in zip(entries, kinds, strict=True) if kind == "file"]
        except OSError as error:
            logger.warning("%s: skipped, it cannot be opened: %s", top / name, error.strerror)


@contextmanager
def _opened(path: Path) -> Iterator[int | Path]:
    """Yield what `os.scandir` takes for a directory: where the system can open it, a descriptor.

    With that it does not look up the whole path for every file, which takes a third of the time.
    """
    if not _BY_DESCRIPTOR:
        yield path
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _kind(entry: os.DirEntry[str], directory: Path) -> str | None:
    """Return whether an entry is a `directory` or a `file`, None for anything else and for a dangling link."""
    try:
        return "directory" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError as error:  # a link in a circle, or into a directory that may not be entered
        logger.warning("%s: skipped, it cannot be opened: %s", directory / entry.name, error.strerror)
        return None


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return an entry's status, None if it has gone or may not be asked for."""
    try:
        return entry.stat()
    except OSError:
        return None


def _line(name: str, stat: os.stat_result | None) -> str:
    return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" if stat is not None else f"{name}\0\n"
