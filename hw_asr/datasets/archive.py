"""Corpora that are an archive on the web, downloaded and unpacked once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hw_asr.datasets.corpus import FilteredCorpus
from hw_asr.runtime.download import download, waiting_lock
from hw_asr.runtime.unpacking import unpack


class Archive(NamedTuple):
    """An archive on the web; its directory `inside` is the corpus."""

    url: str
    inside: str
    gigabytes: float
    """Approximate size of the download; the unpacked files need about the same space."""
    md5: str | None = None
    sha256: str | None = None


def is_present(directory: Path) -> bool:
    """Whether a directory is not empty; unpacked directories appear only when they are complete."""
    return directory.is_dir() and any(not path.name.startswith(".") for path in directory.iterdir())


def ensure(directory: Path, archive: Archive) -> Path:
    """Return the directory, downloaded and unpacked if it is missing; several processes do it only once.

    The archive is removed afterwards. Raises DownloadError, UnpackError.
    """
    if is_present(directory):
        return directory
    with waiting_lock(directory):
        if not is_present(directory):
            path = directory.parent / archive.url.rsplit("/", 1)[-1]
            limit = int(3e9 * archive.gigabytes) + 100_000_000
            download(archive.url, path, md5=archive.md5, sha256=archive.sha256, limit=limit)
            unpack(path, directory, inside=archive.inside)
            path.unlink()
    return directory


def describe(name: str, directory: Path, archive: Archive) -> str:
    """Return one line: where a corpus is, or from where to where it would be downloaded."""
    if is_present(directory):
        return f"{name}: in {directory}"
    return f"{name}: would be downloaded from {archive.url} to {directory}, about {archive.gigabytes:g} GB"


class ArchiveCorpus(FilteredCorpus):
    """A corpus of one archive, unpacked in `directory`; its index is in `index_dir`, by default in `directory`."""

    can_download = True

    def __init__(
        self,
        name: str,
        archive: Archive,
        directory: Path,
        index_dir: Path | None,
        limit: int | None,
        max_audio_length: float | None,
        max_text_length: int | None,
    ) -> None:
        super().__init__(limit, max_audio_length, max_text_length)
        self._name, self._archive = name, archive
        self._directory, self._index_dir = directory, index_dir

    @property
    def name(self) -> str:
        """The name of this corpus in messages."""
        return self._name

    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return is_present(self._directory)

    def status(self) -> str:
        """Return one line: where it is, or from where it would be downloaded."""
        return describe(self._name, self._directory, self._archive)

    def _fetched(self) -> Path:
        """Return the directory, downloaded if it is missing."""
        return ensure(self._directory, self._archive)
