"""One attempt of a download: the request, the checks of the response, the rest of the file."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.receiving import AttemptError, DownloadError, Source, receive
from hw_asr.runtime.web import RedirectError, open_url, whole_number

TIME_OUT_SECONDS = 30.0
MAX_BYTES = 100_000_000_000
"""Limit of a body whose length the server states, where the caller gives no limit."""
_WORTH_A_RETRY = (408, 416, 425, 429, 500, 502, 503, 504)


def attempt(source: Source, part: Path) -> None:
    """Fetch the rest of a file to `part`; nothing is done if it is complete already.

    Raises AttemptError if another attempt may succeed, DownloadError otherwise.
    """
    start = part.stat().st_size if part.exists() else 0
    if source.size is not None and start == source.size:
        return
    version = version_path(part).read_text() if version_path(part).exists() else ""
    if start and not version and not source.has_checksum:
        start = 0  # nothing shows that the rest belongs to the same version
    response = _open(source, part, start, version)
    if response is None:
        return
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise AttemptError("the server sent another range than the one requested")
        start = start if response.status == 206 else 0
        total = _checked_total(source, start, response.headers)
        _check_space(part, (total or 0) - start)
        _remember_version(part, response.headers)
        received = receive(response, part, start, total, source)
    if total is not None and received < total:
        raise AttemptError(f"the connection closed {total - received} bytes early")


def version_path(part: Path) -> Path:
    """Return the file that holds the version of a partial file, as the server names it."""
    return part.with_name(part.name + ".version")


def _open(source: Source, part: Path, start: int, version: str) -> http.client.HTTPResponse | None:
    """Request a file from byte `start` on; None if the server says that there is nothing left."""
    request = urllib.request.Request(source.url, headers={"Accept-Encoding": "identity", "User-Agent": "hw_asr"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if version:
            request.add_header("If-Range", version)
    try:
        return open_url(request, TIME_OUT_SECONDS)
    except RedirectError as error:
        raise DownloadError(f"{source.shown}: {error.reason}") from error
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            return None  # complete, but not renamed yet
        raise _refusal(source.shown, error, part) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = _short(getattr(error, "reason", error)) or type(error).__name__
        raise AttemptError(f"no connection: {reason}") from error


def _checked_total(source: Source, start: int, headers: http.client.HTTPMessage) -> int | None:
    """Return the size of the whole file, None if it is not known; raises an error if it is not the expected one."""
    length = whole_number(headers.get("Content-Length", ""))
    total = start + length if length is not None else source.size
    if start:  # the server may send less than the rest that was asked for
        whole = whole_number(headers.get("Content-Range", "").rpartition("/")[2])
        total = total if whole is None else max(whole, total or 0)
    if source.size is not None and total != source.size:
        raise AttemptError(f"the server announces {total} bytes, expected {source.size}")
    if total is not None and total > (source.limit or MAX_BYTES):
        raise DownloadError(f"{source.shown}: {total} bytes, expected at most {source.limit or MAX_BYTES}")
    return total


def _remember_version(part: Path, headers: http.client.HTTPMessage) -> None:
    """Keep the version of the file on the server, to resume only the same one (RFC 9110, If-Range)."""
    tag = headers.get("ETag", "")
    version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if version:
        with write_and_rename(version_path(part), "w") as file:
            file.write(version)
    else:
        version_path(part).unlink(missing_ok=True)


def _refusal(url: str, error: urllib.error.HTTPError, part: Path) -> Exception:
    if 300 <= error.code < 400:  # the reason may hold the address, with its secrets
        return DownloadError(f"{url}: the server answers {error.code}, a redirect that is not followed")
    if error.code not in _WORTH_A_RETRY:
        return DownloadError(f"{url}: the server answers {error.code} {_short(error.reason)}; check the address")
    if error.code == 416:  # the partial file is longer than the whole one
        part.unlink(missing_ok=True)
    wait = min(float(whole_number(error.headers.get("Retry-After", "")) or 0), 60.0)
    return AttemptError(f"the server answers {error.code} {_short(error.reason)}", wait)


def _short(reason: object) -> str:
    """Return the reason that a server or the system states, as one short line."""
    return " ".join(str(reason).split())[:200]


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent}: the disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed; free space, or "
            "set data.root_dir to another disk"
        )
