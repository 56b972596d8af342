"""Reading a Google Drive folder that is shared by link, without an account; the client is gdown."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from hw_asr.runtime.atomic_files import sync_directory
from hw_asr.runtime.download_attempt import MAX_BYTES
from hw_asr.runtime.optional import optional_import
from hw_asr.runtime.receiving import MAX_UNDECLARED_BYTES
from hw_asr.storage.external import (
    UNKNOWN_SIZE,
    Progress,
    RemoteFile,
    RemoteRun,
    StorageError,
    StorageUnavailable,
)
from hw_asr.storage.run_names import RunId, is_safe_name

_QUOTA = re.compile(r"too many users|quota|many accesses", re.IGNORECASE)


class PublicFolder:
    """The runs in a folder: EXPERIMENT / RUN / files. The pages show names only: no sizes, dates or checksums."""

    def __init__(self, folder_id: str, attempts: int, timeout: float) -> None:
        self._folder, self._attempts, self._timeout = folder_id, attempts, timeout
        self._listing: dict[RunId, dict[str, str]] | None = None

    def runs(self) -> list[RemoteRun]:
        """All runs, sorted by name; the dates are 0."""
        return [RemoteRun(run, 0.0) for run in sorted(self._ids())]

    def files(self, run: RunId) -> list[RemoteFile]:
        """The files of a run, sorted by name; sizes are `UNKNOWN_SIZE`."""
        return [RemoteFile(name, UNKNOWN_SIZE, None, 0.0) for name in sorted(self._ids().get(run, {}))]

    def download(self, run: RunId, name: str, path: Path, progress: Progress | None) -> None:
        """Fetch a file to `path`, where it appears when it has the announced length; a broken transfer is resumed.

        A file of more bytes than a checkpoint can have is not kept.
        """
        with optional_import("reading a public Google Drive folder", "gdown", "gdrive"):
            import gdown

        file_id = self._ids().get(run, {}).get(name)
        if file_id is None:
            raise StorageError(f"Google Drive: run {run} has no file {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}.public")  # gdown keeps what it has received in .NAME.publicXXXXXXXX.part
        whole.unlink(missing_ok=True)
        _remove_links(whole)

        def show(done: int, total: int | None) -> None:
            limit = MAX_UNDECLARED_BYTES if total is None else MAX_BYTES
            if max(done, total or 0) > limit:
                raise _TooLongError(f"more than {limit} bytes; nothing was kept")
            if progress is not None:
                progress(done, total or done)

        with self._errors(f"{run}/{name}"), _removed_if_too_long(whole):
            gdown.download(
                id=file_id, output=str(whole), quiet=True, use_cookies=False, resume=True, timeout=self._timeout,
                retries=self._attempts, progress=show,
            )  # fmt: skip
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.replace(path)
        sync_directory(path.parent)

    def _ids(self) -> dict[RunId, dict[str, str]]:
        """Return the ids of all files by run and name; the folder's pages are read once."""
        with optional_import("reading a public Google Drive folder", "gdown", "gdrive"):
            import gdown

        if self._listing is None:
            with self._errors("the folder"):
                listed: Any = gdown.download_folder(
                    id=self._folder, output="folder", quiet=True, use_cookies=False, skip_download=True,
                    timeout=self._timeout,
                )  # fmt: skip
            self._listing = {}
            for file in listed:
                parts = PurePosixPath(Path(file.path).as_posix()).parts
                if len(parts) == 3 and all(map(is_safe_name, parts)):
                    self._listing.setdefault(RunId(*parts[:2]), {})[parts[2]] = file.id
        return self._listing

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import gdown
        import requests

        place = f"Google Drive folder {self._folder}, read without an account: {what}"
        try:
            yield
        except _TooLongError as error:
            raise StorageError(f"{place}: {error}") from None
        except gdown.FileURLRetrievalError as error:
            if _QUOTA.search(str(error)):
                raise StorageError(
                    f"{place}: Google limits downloads of this file at the moment; try again in some hours, or log in "
                    "with an account of your own (docs/gdrive_storage.md)"
                ) from None
            raise StorageError(f"{place}: Google does not offer it for download; is it shared by link?") from None
        except gdown.DownloadError as error:
            if "permission" in str(error):
                raise StorageError(
                    f"{place}: not found, or not shared by link; for a private folder log in (docs/gdrive_storage.md)"
                ) from None
            raise StorageUnavailable(f"{place}: {_first_line(error)}") from None
        except requests.exceptions.RequestException as error:
            raise StorageUnavailable(f"{place}: {type(error).__name__}") from None
        except OSError as error:
            raise StorageError(f"{place}: cannot be written: {error.strerror}") from error


class _TooLongError(StorageError):
    """A file is longer than any checkpoint; raised while it is received."""


def _parts(whole: Path) -> Iterator[Path]:
    """Yield the partial files that gdown would resume: `whole`, 8 random characters, `.part`."""
    yield from whole.parent.glob(f"{glob.escape(whole.name)}{'?' * 8}.part")


def _remove_links(whole: Path) -> None:
    """Remove partial files that are links or have a second name: gdown would write into another file."""
    for part in _parts(whole):
        status = part.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            part.unlink()


@contextmanager
def _removed_if_too_long(whole: Path) -> Iterator[None]:
    try:
        yield
    except _TooLongError:
        for part in _parts(whole):
            part.unlink()
        raise


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
