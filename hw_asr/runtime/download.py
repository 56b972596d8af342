"""Downloads: resumed after interruptions, checked, and given their final names only when complete."""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from hw_asr.runtime.atomic_files import sync_directory
from hw_asr.runtime.download_attempt import attempt, version_path
from hw_asr.runtime.file_lock import hold
from hw_asr.runtime.receiving import CHUNK_BYTES, SLOW_BYTES, AttemptError, DownloadError, Source
from hw_asr.runtime.web import INVALID

__all__ = ["DownloadError", "download", "waiting_lock"]
logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Number of failed attempts in a row, each with almost no new content, after which a download fails."""
BACK_OFF_SECONDS = 1.0
"""Pause after the first failure; it doubles with each further one."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def download(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    limit: int | None = None,
    description: str = "",
) -> Path:
    """Fetch `url` to `path` and return it; a file that is already there is not fetched again.

    An interrupted transfer leaves `path.part` and is resumed; dropped connections and busy servers are tried again with
    growing pauses; the checksums and the size in bytes, where given, must match. A body that is longer than announced,
    or longer than `limit` bytes, is rejected. Redirects are followed to https only (`web`). Of several processes one
    downloads and the others wait. Messages show neither passwords nor queries of an address.
    Raises DownloadError; a transfer ended by Ctrl-C can be resumed.
    """
    source = Source(url, size, limit, bool(md5 or sha256), description or path.name)
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{source.shown}: only http and https addresses can be downloaded")
    if source.shown == INVALID:
        raise DownloadError(f"download of {source.description}: {INVALID}")
    with waiting_lock(path):
        if path.is_file() and (size is None or path.stat().st_size == size):
            return path
        part = path.with_name(path.name + ".part")
        _remove_unless_regular(part)
        _remove_unless_regular(version_path(part))
        checks = {"md5": md5, "sha256": sha256}
        fault = _fetch_and_check(source, part, checks)
        if fault is not None:  # the resumed part may be of another version
            logger.warning("%s: %s; downloading it again", source.shown, fault)
            fault = _fetch_and_check(source, part, checks)
        if fault is not None:
            raise DownloadError(f"{source.shown}: the content is not as expected: {fault}; nothing was kept")
        part.replace(path)
        version_path(part).unlink(missing_ok=True)
        sync_directory(path.parent)
    return path


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `path`, waiting while another process has it."""
    announced = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold(path.with_name(f".{path.name}.lock")))
                break
            except BlockingIOError as error:
                if not announced:
                    logger.warning("%s: waiting: %s is already working on it", path, error.strerror)
                    announced = True
                time.sleep(0.2)
            except OSError as error:
                raise DownloadError(f"{error.filename or path.parent}: cannot be written: {error.strerror}") from error
        yield


def _fetch_and_check(source: Source, part: Path, checks: dict[str, str | None]) -> str | None:
    """Fetch to `part`; return what is wrong with the content, which is then removed, or None."""
    try:
        _fetch(source, part)
    except OSError as error:
        raise _disk_error(error, part) from error
    fault = _fault(part, checks, source.size)
    if fault is None:
        return None
    head = part.read_bytes()[:200] if part.stat().st_size < CHUNK_BYTES else b""
    part.unlink()
    version_path(part).unlink(missing_ok=True)
    is_page = head.lstrip().lower().startswith((b"<!doctype", b"<html"))
    return f"{fault}; it looks like a web page" if is_page else fault


def _fetch(source: Source, part: Path) -> None:
    """Complete `part`; raises DownloadError after too many failed attempts."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            attempt(source, part)
            return
        except AttemptError as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after >= before + SLOW_BYTES else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{source.shown}: {error}, {failures} times in a row; {after} bytes are kept in {part}: run again "
                    "to continue"
                ) from error
            pause = max(error.wait, BACK_OFF_SECONDS * 2 ** (failures - 1))
            logger.warning("%s: %s after %d bytes; trying again in %g s", source.shown, error, after, pause)
            time.sleep(pause)


def _fault(part: Path, checks: dict[str, str | None], size: int | None) -> str | None:
    """Return what is wrong with a downloaded file, or None."""
    found_size = part.stat().st_size
    if size is not None and found_size != size:
        return f"{found_size} bytes instead of {size}"
    for name, expected in checks.items():
        if expected is not None:
            with part.open("rb") as file:
                found = _digest(file, name)
            if found != expected:
                return f"its {name} is {found} instead of {expected}"
    return None


def _digest(file: BinaryIO, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _disk_error(error: OSError, part: Path) -> DownloadError:
    if error.errno in _DISK_FULL:
        return DownloadError(
            f"{part}: the disk is full; free space and run again: the download continues where it stopped"
        )
    return DownloadError(f"{part}: cannot be written: {error.strerror or error}")


def _remove_unless_regular(path: Path) -> None:
    """Remove a link or a named pipe in the place of a partial file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()
