"""Files from the web: resumed, checked, and under their final names only when they are whole."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from hw_asr.runtime.atomic_files import sync_directory, write_and_rename
from hw_asr.runtime.file_lock import hold
from hw_asr.runtime.receiving import CHUNK_BYTES, SLOW_BYTES, AttemptError, DownloadError, Source, receive
from hw_asr.runtime.web import INVALID, RedirectError, open_url, whole_number

__all__ = ["DownloadError", "download", "waiting_lock"]
logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""A download ends after so many failed attempts in a row that bring next to nothing."""
BACK_OFF_SECONDS = 1.0
"""Pause after the first failure; it doubles with each further one."""
TIME_OUT_SECONDS = 30.0
_WORTH_A_RETRY = (408, 416, 425, 429, 500, 502, 503, 504)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


MAX_BYTES = 100_000_000_000
"""Of a body whose length the server states, where the caller gives no limit."""


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
    growing pauses; the checksums and the size in bytes, where given, must agree. A body that is longer than announced,
    or than `limit` bytes, is stopped. Redirects are followed to https only (`web`). Of several processes one fetches
    and the others wait. Messages show neither passwords nor queries of an address.
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
        _remove_unless_regular(_version_path(part))
        checks = {"md5": md5, "sha256": sha256}
        for is_last in (False, True):  # the second time from the start: the resumed part may be of another version
            try:
                _fetch(source, part)
            except OSError as error:
                raise _disk_error(error, part) from error
            fault = _fault(part, checks, size)
            if fault is None:
                break
            head = part.read_bytes()[:200] if part.stat().st_size < CHUNK_BYTES else b""
            part.unlink()
            _version_path(part).unlink(missing_ok=True)
            if is_last:
                page = (
                    "; it looks like a web page" if head.lstrip().lower().startswith((b"<!doctype", b"<html")) else ""
                )
                raise DownloadError(f"{source.shown}: the content is not as expected: {fault}{page}; nothing was kept")
            logger.warning("%s: %s; downloading it again", source.shown, fault)
        part.replace(path)
        _version_path(part).unlink(missing_ok=True)
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


def _fetch(source: Source, part: Path) -> None:
    """Bring `part` to its full length, in as many attempts as it takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(source, part)
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


def _attempt(source: Source, part: Path) -> None:
    size = source.size
    start = part.stat().st_size if part.exists() else 0
    if size is not None and start == size:
        return
    known = _version_path(part).read_text() if _version_path(part).exists() else ""
    if start and not known and not source.has_checksum:
        start = 0  # nothing tells whether the two halves belong together
    request = urllib.request.Request(source.url, headers={"Accept-Encoding": "identity", "User-Agent": "hw_asr"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if known:
            request.add_header("If-Range", known)
    try:
        response = open_url(request, TIME_OUT_SECONDS)
    except RedirectError as error:
        raise DownloadError(f"{source.shown}: {error.reason}") from error
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            return  # complete, but not renamed yet
        raise _refusal(source.shown, error, part) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = _short(getattr(error, "reason", error)) or type(error).__name__
        raise AttemptError(f"no connection: {reason}") from error
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise AttemptError("the server sent another range than the one asked for")
        start = start if response.status == 206 else 0
        length = whole_number(response.headers.get("Content-Length", ""))
        total = start + length if length is not None else size
        if size is not None and total != size:
            raise AttemptError(f"the server announces {total} bytes, expected {size}")
        if total is not None and total > (source.limit or MAX_BYTES):
            raise DownloadError(f"{source.shown}: {total} bytes, expected at most {source.limit or MAX_BYTES}")
        _check_space(part, (total or 0) - start)
        _remember_version(part, response.headers)
        received = receive(response, part, start, total, source)
    if total is not None and received < total:
        raise AttemptError(f"the connection closed {total - received} bytes early")


def _remember_version(part: Path, headers: http.client.HTTPMessage) -> None:
    """Keep the version of the file on the server, to resume only the same one (RFC 9110, If-Range)."""
    tag = headers.get("ETag", "")
    version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if version:
        with write_and_rename(_version_path(part), "w") as file:
            file.write(version)
    else:
        _version_path(part).unlink(missing_ok=True)


def _refusal(url: str, error: urllib.error.HTTPError, part: Path) -> Exception:
    if error.code not in _WORTH_A_RETRY:
        return DownloadError(f"{url}: the server answers {error.code} {_short(error.reason)}; check the address")
    if error.code == 416:  # the partial file is longer than the whole one
        part.unlink(missing_ok=True)
    wait = min(float(whole_number(error.headers.get("Retry-After", "")) or 0), 60.0)
    return AttemptError(f"the server answers {error.code} {_short(error.reason)}", wait)


def _short(reason: object) -> str:
    """Return what a server or the system states as a reason, in one short line."""
    return " ".join(str(reason).split())[:200]


def _fault(part: Path, checks: dict[str, str | None], size: int | None) -> str | None:
    """Return what is wrong with a file that arrived; None when nothing is."""
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


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent}: the disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed; free space, or "
            "set data.root_dir to another disk"
        )


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


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".version")
