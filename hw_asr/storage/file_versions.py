"""Versions of a run's files: each is frozen until its upload, and content that the storage has is not sent again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hw_asr.storage.external import ExternalStorage, md5_of
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX
from hw_asr.storage.runs import Run


class Version(NamedTuple):
    """A version of a file to upload: `frozen` keeps its content when `path` gets a newer version."""

    path: Path
    frozen: Path
    step: int

    @property
    def name(self) -> str:
        """The file's name, here and in the storage."""
        return self.path.name

    @classmethod
    def freeze(cls, path: Path, step: int, number: int) -> Version | None:
        """Give the present content a hidden name with a new number; None when the file does not exist."""
        frozen = path.with_name(f".{path.name}.{number}.export")
        frozen.unlink(missing_ok=True)
        try:
            frozen.hardlink_to(path)
        except FileNotFoundError:
            return None
        except OSError:  # a file system without hard links
            try:
                shutil.copyfile(path, frozen)
            except OSError:
                frozen.unlink(missing_ok=True)
                raise
        return cls(path, frozen, step)

    def discard(self) -> None:
        """Remove the hidden file."""
        self.frozen.unlink(missing_ok=True)


def remove_left_over(directory: Path) -> None:
    """Remove the hidden files of a process that was killed."""
    for frozen in directory.glob(".*.export"):
        frozen.unlink()


def upload_command(run: Run, names: Iterable[str]) -> str:
    """Return the command that uploads files of a run by hand; the run's config, which has the storage, goes along."""
    checkpoints = [name for name in names if name.endswith(CHECKPOINT_SUFFIX)] or ["latest"]
    models_dir = run.model_dir.absolute().parents[1]
    options = ["-c", str(run.config_path), "-p", str(models_dir), "--run", str(run.id)]
    return shlex.join(["python", "-m", "hw_asr", "models", "upload", *options, *checkpoints])


class Uploads:
    """Uploads versions of the files of one run; content that the storage has already is not sent again.

    The record of the metrics goes ahead of each checkpoint, so that it covers at least the steps of the checkpoint.
    """

    def __init__(self, storage: ExternalStorage, run: Run) -> None:
        self._storage, self._run = storage, run
        self._md5s: dict[str, str] = {}  # of what was uploaded, by name
        self.num_sent = 0
        """Files that were uploaded, without the record of the metrics."""

    def send(self, version: Version) -> str:
        """Bring a version into the storage, unless it is there; return its MD5. Raises StorageError."""
        md5 = md5_of(version.frozen)
        if version.name.endswith(CHECKPOINT_SUFFIX) and self._run.metrics_path.is_file():
            self._send_metrics()
        if self._md5s.get(version.name) != md5:
            twin = next((name for name, known in self._md5s.items() if known == md5), None)
            if twin is None or not self._storage.copy(self._run.id, twin, version.name):
                self._storage.upload(version.frozen, self._run.id, version.name)
            self._md5s[version.name] = md5
            self.num_sent += 1
        return md5

    def _send_metrics(self) -> None:
        """Upload the whole lines of the record as it is now."""
        path = self._run.metrics_path
        content = path.read_bytes()
        snapshot = path.with_name(f".{path.name}.export")
        snapshot.write_bytes(content[: content.rfind(b"\n") + 1])
        try:
            md5 = md5_of(snapshot)
            if self._md5s.get(path.name) != md5:
                self._storage.upload(snapshot, self._run.id, path.name)
                self._md5s[path.name] = md5
        finally:
            snapshot.unlink(missing_ok=True)
