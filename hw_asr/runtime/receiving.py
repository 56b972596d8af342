"""Receiving the body of a download: into a partial file, and no more of it than was announced."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import open_regular
from hw_asr.runtime.printable import printable_line
from hw_asr.runtime.web import redacted

CHUNK_BYTES = 1 << 20
MAX_UNDECLARED_BYTES = 1_000_000_000
"""Of a body whose length the server does not state, where the caller gives no limit; an endless one stops here."""
SLOW_SECONDS, SLOW_BYTES = 300.0, 4096
"""A server that sends less than this in so much time counts as one that sends nothing."""


class DownloadError(UserError):
    """A download failed; the message names the address, the reason and the remedy."""


class AttemptError(Exception):
    """An attempt failed; another one may succeed. `wait` is what the server asks for, seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Source(NamedTuple):
    """What is downloaded, and what is known of it beforehand; sizes in bytes."""

    url: str
    size: int | None
    limit: int | None
    has_checksum: bool
    description: str

    @property
    def shown(self) -> str:
        """The address for messages."""
        return redacted(self.url)


def receive(response: http.client.HTTPResponse, part: Path, start: int, total: int | None, source: Source) -> int:
    """Append a body to `part`, cut to `start` bytes before; return how many bytes it then has, `total` if all is well.

    Raises AttemptError when the connection breaks or is too slow, and DownloadError for more than `total` bytes or,
    without a total, more than the limits allow; then nothing is kept.
    """
    most = total if total is not None else source.limit or MAX_UNDECLARED_BYTES
    title = printable_line(source.description)
    bar = tqdm(desc=title, initial=start, total=total, unit="B", unit_scale=True, delay=2, disable=None)
    with open_regular(part, "r+b" if part.exists() else "wb") as file, bar:
        file.truncate(start)
        file.seek(start)
        mark, marked = time.monotonic(), start
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise AttemptError(f"the connection broke: {error or type(error).__name__}") from error
            if not chunk:
                return int(file.tell())
            file.write(chunk)
            bar.update(len(chunk))
            if file.tell() > most:
                file.truncate(0)
                announced = "bytes, and announces no end" if total is None else "bytes that it announced"
                raise DownloadError(f"{source.shown}: the server sends more than {most} {announced}; nothing was kept")
            if time.monotonic() - mark > SLOW_SECONDS:
                if file.tell() - marked < SLOW_BYTES:
                    raise AttemptError(f"less than {SLOW_BYTES} bytes in {SLOW_SECONDS:g} s")
                mark, marked = time.monotonic(), file.tell()
