"""What every place outside this machine that keeps runs can do: list, download, upload."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from hw_asr.errors import UserError
from hw_asr.storage.run_names import RunId

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all; the former may go back when a transfer starts over."""

BLOCK_BYTES = 1 << 20
UNKNOWN_SIZE = -1


class StorageError(UserError):
    """An external storage refused, or does not have, what was asked for; trying again will not help."""


class StorageUnavailable(StorageError):  # noqa: N818  -- it is a state, and reads as one where it is caught
    """An external storage could not be reached or failed; trying again may help."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the storage asked to be left alone."""


class Damaged(StorageUnavailable):
    """What arrived is not what was sent."""


class RemoteRun(NamedTuple):
    """A run on a storage."""

    id: RunId
    modified: float
    """Seconds since 1970."""


class RemoteFile(NamedTuple):
    """A file of a run on a storage."""

    name: str
    size: int
    """Bytes; `UNKNOWN_SIZE` when the storage does not say."""
    md5: str | None
    """Lower-case hexadecimal; None when the storage does not know it."""
    modified: float
    """Seconds since 1970."""

    def is_copied_to(self, path: Path) -> bool:
        """Whether `path` holds this file's content, by size and MD5; False where the storage knows neither."""
        if self.size == UNKNOWN_SIZE and self.md5 is None:
            return False
        if not path.is_file() or self.size not in (UNKNOWN_SIZE, path.stat().st_size):
            return False
        return self.md5 is None or md5_of(path) == self.md5


class ExternalStorage(ABC):
    """Keeps the files of runs; EXPERIMENT / RUN / file, whatever that means to it. Making one connects to nothing.

    All methods raise StorageError, or StorageUnavailable when a repetition may succeed.
    """

    @abstractmethod
    def check_writable(self) -> None:
        """Raise StorageError when uploads are bound to be refused; to be called before they are needed."""

    @abstractmethod
    def runs(self) -> list[RemoteRun]:
        """All runs, sorted by name."""

    @abstractmethod
    def files(self, run: RunId, checksums: bool = True) -> list[RemoteFile]:
        """The whole files of a run, sorted by name; none when there is no such run.

        Without `checksums` a storage that would have to compute them leaves them out.
        """

    @abstractmethod
    def download(self, run: RunId, name: str, path: Path, progress: Progress | None = None) -> None:
        """Bring a file to `path`, where it appears only when whole and verified."""

    @abstractmethod
    def upload(self, path: Path, run: RunId, name: str, progress: Progress | None = None) -> None:
        """Put a file into a run, which is made when missing; it replaces the one of that name, when whole."""

    def copy(self, run: RunId, source: str, target: str) -> bool:
        """Store the content of one file of a run under a second name, without sending it again.

        Returns False when the storage cannot do that; then the file has to be uploaded.
        """
        return False


def md5_of(path: Path) -> str:
    """MD5 of a file, read in blocks."""
    with path.open("rb") as file:
        return md5_of_stream(file)


def md5_of_stream(file: IO[bytes]) -> str:
    """MD5 of what is left to read."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def copy_stream(source: IO[bytes], target: IO[bytes], size: int, progress: Progress | None) -> str:
    """Copy the rest of `source`, `size` bytes, in blocks; returns its MD5. Raises Damaged when it is longer."""
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    while block := source.read(BLOCK_BYTES):
        target.write(block)
        digest.update(block)
        done += len(block)
        if done > size:
            raise Damaged(f"more than the {size} bytes that were announced")
        if progress is not None:
            progress(done, size)
    return digest.hexdigest()


def verify(name: str, expected_md5: str | None, md5: str, expected_size: int, size: int) -> None:
    """Raise Damaged when a transferred file is not what was sent; an unknown MD5 is not compared."""
    if size != expected_size:
        raise Damaged(f"{name}: {size} bytes arrived of {expected_size}")
    if expected_md5 is not None and md5 != expected_md5:
        raise Damaged(f"{name}: damaged on the way (MD5 {md5}, expected {expected_md5})")
