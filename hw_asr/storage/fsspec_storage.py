"""Runs kept behind an fsspec URL: s3://, gs://, az://, sftp://, memory:// and whatever else fsspec knows."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_asr.config.registry import STORAGES
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import (
    ExternalStorage,
    Progress,
    RemoteFile,
    RemoteRun,
    StorageError,
    StorageUnavailable,
    copy_stream,
    md5_of_stream,
    verify,
)
from hw_asr.storage.run_names import RunId, is_safe_name
from hw_asr.storage.secrets import forbid_secrets, from_environment, secrets_in

if TYPE_CHECKING:  # imported when a storage is opened
    from fsspec import AbstractFileSystem

_MD5_SUFFIX = ".md5"


@STORAGES.register()
class FsspecStorage(ExternalStorage):
    """Keeps URL/EXPERIMENT/RUN/files, and the MD5 of each in a hidden file `.NAME.md5` beside it.

    `options` go to the file system; a value "$NAME" is taken from the environment, and secrets must be. A transfer is
    tried `attempts` times, with waits from `first_wait` seconds on.
    """

    def __init__(
        self, url: str, options: dict[str, Any] | None = None, attempts: int = 4, first_wait: float = 1.0
    ) -> None:
        if "://" not in url:
            raise ValueError(f"url: expected PROTOCOL://PLACE, for example s3://bucket/runs, got {url!r}")
        found = secrets_in(url, "url")
        if found:
            raise ValueError(f"{found[0]}, and would be copied into every run; use options with $NAME")
        if attempts < 1:
            raise ValueError(f"attempts: expected at least 1, got {attempts}")
        if first_wait < 0:
            raise ValueError(f"first_wait: expected seconds, got {first_wait}")
        forbid_secrets(options or {}, "options")
        self._url, self._options, self._attempts = url.rstrip("/"), options or {}, attempts
        self._first_wait = first_wait
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def __repr__(self) -> str:
        return f"FsspecStorage({self._url!r})"

    def check_writable(self) -> None:
        """Write and delete a small hidden file."""
        fs, root = self._open()
        probe = f"{root}/.probe-{uuid.uuid4().hex}"
        with self._errors("write to it"):
            fs.makedirs(root, exist_ok=True)
            fs.pipe_file(probe, b"probe")
            fs.rm_file(probe)

    def runs(self) -> list[RemoteRun]:
        """All runs; one listing per experiment."""
        return [
            RemoteRun(RunId(experiment, name), _modified(info))
            for experiment, _ in self._list("", "directory")
            for name, info in self._list(f"/{experiment}", "directory")
        ]

    def files(self, run: RunId, checksums: bool = True) -> list[RemoteFile]:
        """The files of a run."""
        place = f"/{run.experiment}/{run.name}"
        return [
            RemoteFile(name, info["size"], self._stored_md5(f"{place}/{name}") if checksums else None, _modified(info))
            for name, info in self._list(place, "file")
        ]

    def download(self, run: RunId, name: str, path: Path, progress: Progress | None = None) -> None:
        """Stream a file to `path`; starts over when broken."""

        def attempt() -> None:
            fs, root = self._open()
            place = f"{root}/{run.experiment}/{run.name}/{name}"
            with self._errors(f"read {name}"), write_and_rename(path) as target, fs.open(place, "rb") as source:
                size = fs.size(place)
                md5 = copy_stream(source, target, size, progress)
                verify(name, self._stored_md5(place.removeprefix(root)), md5, size, target.tell())

        Backoff(self._attempts, self._first_wait).retry(attempt)

    def upload(self, path: Path, run: RunId, name: str, progress: Progress | None = None) -> None:
        """Stream a file to a hidden name, read it back, and rename it; starts over when broken."""

        def attempt() -> None:
            fs, root = self._open()
            directory = f"{root}/{run.experiment}/{run.name}"
            part = f"{directory}/.{name}.{uuid.uuid4().hex}.part"
            try:
                with self._errors(f"write {name}"), path.open("rb") as source:
                    size = os.fstat(source.fileno()).st_size
                    fs.makedirs(directory, exist_ok=True)
                    with fs.open(part, "wb") as target:
                        md5 = copy_stream(source, target, size, progress)
                    with fs.open(part, "rb") as written:
                        verify(name, md5, md5_of_stream(written), size, fs.size(part))
                    self._replace(fs, part, f"{directory}/{name}", md5)
            finally:
                with self._errors("clean up"):
                    if fs.exists(part):
                        fs.rm_file(part)

        Backoff(self._attempts, self._first_wait).retry(attempt)

    def copy(self, run: RunId, source: str, target: str) -> bool:
        """Copy a file on the side of the storage; False when its content is not known to be whole."""
        fs, root = self._open()
        directory = f"{root}/{run.experiment}/{run.name}"
        md5 = self._stored_md5(f"/{run.experiment}/{run.name}/{source}")
        if md5 is None:
            return False
        part = f"{directory}/.{target}.{uuid.uuid4().hex}.part"
        with self._errors(f"copy {source} to {target}"):
            try:
                fs.cp_file(f"{directory}/{source}", part)
            except NotImplementedError:  # sftp
                return False
            self._replace(fs, part, f"{directory}/{target}", md5)
        return True

    def _replace(self, fs: AbstractFileSystem, part: str, place: str, md5: str) -> None:
        from fsspec import AbstractFileSystem

        # Without an MD5 beside it a file is checked by size alone, so none must outlive the content it is for.
        stored = _md5_place(place)
        if fs.exists(stored):
            fs.rm_file(stored)
        if type(fs).mv is AbstractFileSystem.mv:  # takes * ? [ in names for patterns
            fs.cp_file(part, place)
            fs.rm_file(part)
        else:
            fs.mv(part, place)
        fs.pipe_file(stored, md5.encode())

    def _stored_md5(self, place: str) -> str | None:
        fs, root = self._open()
        with self._errors("read an MD5"):
            try:
                text = fs.cat_file(root + _md5_place(place)).decode("ascii", "replace").strip()
            except FileNotFoundError:
                return None
        return text if re.fullmatch(r"[0-9a-f]{32}", text) else None

    def _list(self, place: str, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        fs, root = self._open()
        with self._errors("list it"):
            fs.invalidate_cache()
            try:
                infos = fs.ls(root + place, detail=True)
            except FileNotFoundError:
                return []
        named = [(info["name"].rstrip("/").rpartition("/")[2], info) for info in infos if info["type"] == kind]
        return sorted((pair for pair in named if is_safe_name(pair[0])), key=lambda pair: pair[0])

    def _open(self) -> tuple[AbstractFileSystem, str]:
        if self._opened is None:
            from fsspec.core import url_to_fs

            options = {key: from_environment(value) for key, value in self._options.items()}
            with self._errors("open it"):
                try:
                    # fsspec's cache would share one connection with other threads, and return it when it is dead.
                    fs, root = url_to_fs(self._url, skip_instance_cache=True, **options)
                except (ImportError, ValueError, TypeError) as error:  # no such protocol, package or option
                    raise StorageError(f"external storage {self._url}: {error}") from None
            self._opened = fs, root.rstrip("/")
        return self._opened

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise StorageError(f"external storage {self._url}: cannot {what}: {type(error).__name__}") from None
        # Every protocol brings exceptions of its own; their texts may quote requests, and those credentials.
        except Exception as error:
            self._opened = None  # a connection that broke does not come back
            raise StorageUnavailable(f"external storage {self._url}: cannot {what}: {type(error).__name__}") from None


def _md5_place(place: str) -> str:
    directory, _, name = place.rpartition("/")
    return f"{directory}/.{name}{_MD5_SUFFIX}"


def _modified(info: Mapping[str, object]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0
