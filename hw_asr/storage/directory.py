"""Runs kept in a directory: another disk, a network mount, a synchronised folder."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw_asr.config.registry import STORAGES
from hw_asr.runtime.atomic_files import sync_directory, write_and_rename
from hw_asr.storage.external import (
    ExternalStorage,
    Progress,
    RemoteFile,
    RemoteRun,
    StorageError,
    StorageUnavailable,
    copy_stream,
    md5_of,
    verify,
)
from hw_asr.storage.run_names import RunId, is_safe_name


@STORAGES.register()
class DirectoryStorage(ExternalStorage):
    """Keeps PATH/EXPERIMENT/RUN/files; a PATH that begins with ~ lies in the home directory."""

    def __init__(self, path: Path) -> None:
        self._root = path.expanduser()

    def __repr__(self) -> str:
        return f"DirectoryStorage({str(self._root)!r})"

    def check_writable(self) -> None:
        """Raise StorageError when the directory does not exist, lies on an absent mount or is read-only."""
        self._check_exists()
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise StorageError(f"external storage {self._root}: is read-only for this user; uploads need write access")

    def runs(self) -> list[RemoteRun]:
        """All runs; one directory read per experiment."""
        self._check_exists()
        with self._errors():
            return [
                RemoteRun(RunId(experiment.name, run.name), run.stat().st_mtime)
                for experiment in _visible(self._root)
                if experiment.is_dir()
                for run in _visible(Path(experiment))
                if run.is_dir()
            ]

    def files(self, run: RunId, checksums: bool = True) -> list[RemoteFile]:
        """The files of a run; reads them whole for their checksums."""
        self._check_exists()
        directory = self._root / run.experiment / run.name
        if not directory.is_dir():
            return []
        with self._errors():
            return [
                RemoteFile(
                    entry.name, entry.stat().st_size, md5_of(Path(entry)) if checksums else None, entry.stat().st_mtime
                )
                for entry in _visible(directory)
                if entry.is_file()
            ]

    def download(self, run: RunId, name: str, path: Path, progress: Progress | None = None) -> None:
        """Copy a file from the directory."""
        self._check_exists()
        self._copy(self._root / run.experiment / run.name / name, path, progress)

    def upload(self, path: Path, run: RunId, name: str, progress: Progress | None = None) -> None:
        """Copy a file into the directory and read it back."""
        self._check_exists()
        self._copy(path, self._root / run.experiment / run.name / name, progress)

    def copy(self, run: RunId, source: str, target: str) -> bool:
        """Link a file to a second name; False on file systems without hard links."""
        self._check_exists()
        directory = self._root / run.experiment / run.name
        part = directory / f".{target}.{uuid.uuid4().hex}.part"
        try:
            part.hardlink_to(directory / source)
            part.replace(directory / target)
            part.unlink(missing_ok=True)  # renaming does nothing when both names are links to one file
        except OSError:
            part.unlink(missing_ok=True)
            return False
        sync_directory(directory)
        return True

    def _copy(self, source: Path, target: Path, progress: Progress | None) -> None:
        with self._errors(), source.open("rb") as file, write_and_rename(target) as copy:
            size = os.fstat(file.fileno()).st_size
            md5 = copy_stream(file, copy, size, progress)
            copy.flush()
            part = Path(copy.name)
            verify(str(target), md5, md5_of(part), size, part.stat().st_size)

    def _check_exists(self) -> None:
        if not self._root.is_dir():
            raise StorageError(f"external storage {self._root}: no such directory; create it, or mount its disk")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StorageError(f"external storage {self._root}: no file {error.filename}") from error
        except OSError as error:
            raise StorageUnavailable(f"external storage {self._root}: {error.strerror or error}") from error


def _visible(path: Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted((entry for entry in entries if is_safe_name(entry.name)), key=lambda entry: entry.name)
