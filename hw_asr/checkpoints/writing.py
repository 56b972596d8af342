"""Writing a checkpoint: tensors and plain data, complete or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.runtime.atomic_files import sync_directory, temporary_path, write_and_rename

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and continue with -r",
    errno.EDQUOT: "the disk quota is used up; free some space and continue with -r",
    errno.EFBIG: "the file is larger than this system allows (ulimit -f, or the file system's limit)",
    errno.EROFS: "the file system is read-only",
}


def save_checkpoint(state: Mapping[str, object], path: Path, *copies: Path) -> None:
    """Write `state`, which holds tensors and plain data only, to `path` and, as hard links, to `copies`.

    A kill at any instant leaves each name with either its old or its new content.
    Raises CheckpointError when the file cannot be written.
    """
    with _explained(path):
        with write_and_rename(path) as file:
            _save(dict(state), file)
        for copy in copies:
            link_checkpoint(path, copy)


def link_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a further name, replacing the file of that name; a copy where there are no hard links.

    Raises CheckpointError when that is not possible.
    """
    part = temporary_path(target)
    with _explained(target):
        try:
            part.hardlink_to(source)
        except OSError:  # a file system without hard links
            with source.open("rb") as file, write_and_rename(target) as copy:
                shutil.copyfileobj(file, copy)
            return
        part.replace(target)
        part.unlink(missing_ok=True)  # renaming does nothing when both names are links to one file
        sync_directory(target.parent)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a CheckpointError with the reason."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise CheckpointError(f"{path}: the checkpoint could not be written: {reason}") from error


def _save(state: dict[str, object], file: IO[bytes]) -> None:
    """Write with torch, which reports a failed write as a RuntimeError of its own: raise the OSError instead."""
    recorded = _Recorded(file)
    try:
        torch.save(state, recorded)  # type: ignore[arg-type]  # it needs no more than write and flush
    except RuntimeError:
        if recorded.error is not None:
            raise recorded.error from None
        raise


class _Recorded:
    """A file that keeps the error of a failed write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write; return the number of bytes."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()
