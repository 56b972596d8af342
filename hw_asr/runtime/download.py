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
from typing import Any

from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import sync_directory
from hw_asr.runtime.file_lock import hold
from hw_asr.runtime.printable import printable_line

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Failures in a row, none of them bringing a byte, after which a download is given up."""
BACK_OFF_SECONDS = 1.0
"""Pause after the first failure; it doubles with each further one."""
TIME_OUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
_WORTH_A_RETRY = (408, 416, 425, 429, 500, 502, 503, 504)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(UserError):
    """A file cannot be had; the message says from where, why and what to do."""


class _AttemptError(Exception):
    """An attempt failed; another one may not. `wait` is what the server asks for, seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(
    url: str,
    path: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    description: str = "",
) -> Path:
    """Fetch `url` to `path` and return it; what is there already is not fetched again.

    An interrupted transfer leaves `path.part` and is taken up where it broke off; dropped connections and busy servers
    are tried again with growing pauses; the checksums and the size in bytes, where given, must agree. Of several
    processes one fetches and the others wait.
    Raises DownloadError; a transfer that Ctrl-C ends can be resumed.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: only http and https addresses can be downloaded")
    with waiting_lock(path):
        if path.is_file() and (size is None or path.stat().st_size == size):
            return path
        part = path.with_name(path.name + ".part")
        checks = {"md5": md5, "sha256": sha256}
        for is_last in (False, True):  # once more from the beginning: what was resumed may have been of another version
            try:
                _fetch(url, part, size, bool(md5 or sha256), description or path.name)
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
                raise DownloadError(f"{url}: what arrives is not what is expected: {fault}{page}; nothing was kept")
            logger.warning("%s: %s; fetching it afresh", url, fault)
        part.replace(path)
        _version_path(part).unlink(missing_ok=True)
        sync_directory(path.parent)
    return path


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold `.NAME.lock` beside `path`, waiting for whoever has it."""
    announced = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold(path.with_name(f".{path.name}.lock")))
                break
            except BlockingIOError as error:
                if not announced:
                    logger.warning("%s: waiting for %s, which is at it", path, error.strerror)
                    announced = True
                time.sleep(0.2)
            except OSError as error:
                raise DownloadError(f"{path.parent}: cannot be written: {error.strerror}") from error
        yield


def _fetch(url: str, part: Path, size: int | None, is_checked: bool, description: str) -> None:
    """Bring `part` to its full length, in as many attempts as it takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, size, is_checked, description)
            return
        except _AttemptError as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{url}: {error}, {failures} times in a row; {after} bytes are kept in {part}: run again to go on"
                ) from error
            pause = max(error.wait, BACK_OFF_SECONDS * 2 ** (failures - 1))
            logger.warning("%s: %s after %d bytes; trying again in %g s", url, error, after, pause)
            time.sleep(pause)


def _attempt(url: str, part: Path, size: int | None, is_checked: bool, description: str) -> None:
    start = part.stat().st_size if part.exists() else 0
    if size is not None and start == size:
        return
    known = _version_path(part).read_text() if _version_path(part).exists() else ""
    if start and not known and not is_checked:
        start = 0  # nothing would tell that the two halves belong together
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "hw_asr"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if known:
            request.add_header("If-Range", known)
    try:
        response = urllib.request.urlopen(request, timeout=TIME_OUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            return  # it was whole, only not renamed yet
        raise _refusal(url, error, part) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _AttemptError(f"no connection: {getattr(error, 'reason', error) or type(error).__name__}") from error
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise _AttemptError("the server sent another range than the one asked for")
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else size
        if size is not None and total != size:
            raise _AttemptError(f"the server offers {total} bytes where there should be {size}")
        _check_space(part, (total or 0) - start)
        _remember_version(part, response.headers)
        received = _receive(response, part, start, total, description)
    if total is not None and received < total:
        raise _AttemptError(f"the connection closed {total - received} bytes early")


def _remember_version(part: Path, headers: Any) -> None:
    """Keep what tells that the file on the server is still the same one (RFC 9110, If-Range)."""
    tag = headers.get("ETag", "")
    version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if version:
        _version_path(part).write_text(version)
    else:
        _version_path(part).unlink(missing_ok=True)


def _receive(response: Any, part: Path, start: int, total: int | None, description: str) -> int:
    """Append the body to `part`, cut to `start` bytes before; return how many bytes it then has."""
    bar = tqdm(
        desc=printable_line(description), initial=start, total=total, unit="B", unit_scale=True, delay=2, disable=None
    )
    with part.open("r+b" if part.exists() else "wb") as file, bar:
        file.truncate(start)
        file.seek(start)
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _AttemptError(f"the connection broke: {error or type(error).__name__}") from error
            if not chunk:
                return file.tell()
            file.write(chunk)
            bar.update(len(chunk))


def _refusal(url: str, error: urllib.error.HTTPError, part: Path) -> Exception:
    if error.code not in _WORTH_A_RETRY:
        return DownloadError(f"{url}: the server answers {error.code} {error.reason}; is the address right?")
    if error.code == 416:  # what is there is longer than the file
        part.unlink(missing_ok=True)
    asked = error.headers.get("Retry-After", "")
    wait = min(float(asked), 60.0) if asked.isdigit() else 0.0
    return _AttemptError(f"the server answers {error.code} {error.reason}", wait)


def _fault(part: Path, checks: dict[str, str | None], size: int | None) -> str | None:
    """Say what is wrong with a file that arrived, None when nothing is."""
    found_size = part.stat().st_size
    if size is not None and found_size != size:
        return f"{found_size} bytes instead of {size}"
    for name, expected in checks.items():
        if expected is not None:
            with part.open("rb") as file:
                found = _digest(file, name)
            if found.hexdigest() != expected:
                return f"its {name} is {found.hexdigest()} instead of {expected}"
    return None


def _digest(file: Any, name: str) -> Any:
    digest = hashlib.new(name, usedforsecurity=False)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent}: the disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB more are needed; make room, "
            "or let the data lie elsewhere (data.root_dir)"
        )


def _disk_error(error: OSError, part: Path) -> DownloadError:
    if error.errno in _DISK_FULL:
        return DownloadError(
            f"{part}: the disk is full; make room and run again: the download goes on where it stopped"
        )
    return DownloadError(f"{part}: cannot be written: {error.strerror or error}")


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".version")
