"""Writes the pages of a training run, of an evaluation and of a comparison."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from hw_asr.report.comparison import summary
from hw_asr.report.page import write_comparison, write_report, write_training_report
from hw_asr.report.results import ReportError, read_results
from hw_asr.storage.external import StorageError
from hw_asr.storage.run_names import METRICS_NAME, RunId
from hw_asr.storage.runs import Run


def compare(first: Path, second: Path, output: Path, decoders: tuple[str, str] | None, audio_mb: float) -> str:
    """Write the comparison of two results; return its summary in a few lines.

    Args:
        first, second: files that `test` has written.
        output: the page.
        decoders: the decoder of each; None: the most elaborate one that both have.
        audio_mb: recordings are embedded up to this total size, in megabytes.
    """
    names = (first.stem, second.stem)
    if names[0] == names[1] and first != second:
        names = (str(first), str(second))
    elif names[0] == names[1] and (decoders is None or decoders[0] == decoders[1]):
        names = ("first", "second")
    data = write_comparison(
        read_results(first), read_results(second), output,
        names=names, decoders=decoders, audio_limit_mb=audio_mb, audio_dir=first.parent,
    )  # fmt: skip
    return summary(data)


def show_results(path: Path, output: Path, audio_mb: float) -> None:
    """Write the page of the results in `path`, with up to `audio_mb` megabytes of recordings."""
    results = read_results(path)
    write_report(results, output, title=path.stem, totals={}, audio_limit_mb=audio_mb, audio_dir=path.parent)


def show_training(target: str, output: Path | None, storage_config: Path, watch: float | None = None) -> Path:
    """Write the curves of a run and return the page's path.

    `target` is a log directory, a model directory, a checkpoint, or EXPERIMENT:RUN in the storage that `storage_config`
    describes. With `watch`, the page is updated every so many seconds until KeyboardInterrupt, as soon and as often as
    the storage has metrics.

    Raises ReportError when the run has no metrics, StorageError when the storage fails.
    """
    is_stored = ":" in target and not Path(target).exists()
    source = _StoredRun(target, storage_config) if is_stored else _LocalRun(Path(target))
    page = output or source.default_output
    refresh = None if watch is None else max(1, round(watch))
    while True:
        try:
            write_training_report(source.metrics(), page, title=source.title, refresh=refresh)
            result = f"written: {page}"
        except (StorageError, ReportError) as error:
            if watch is None:
                raise
            result = f"not updated: {error}"
        if watch is None:
            return page
        print(f"{result}; press Ctrl-C to stop", flush=True)
        time.sleep(watch)


class _LocalRun:
    """A run on this machine."""

    def __init__(self, target: Path) -> None:
        run = Run.of_checkpoint(target) if target.is_file() and target.suffix == ".pth" else None
        if run is None and not (target / "metrics.jsonl").is_file():
            absolute = Path(os.path.normpath(target.absolute()))
            run = Run.below(absolute.parent.parent, RunId(absolute.parent.name, absolute.name), target)
        self._path = run.metrics_path if run else target / "metrics.jsonl"
        if not self._path.is_file():
            raise ReportError(
                f"{target}: no metrics.jsonl; give saved/log/EXP/RUN, saved/models/EXP/RUN, a checkpoint or EXP:RUN"
            )
        directory = self._path.parent.absolute()
        self.title = f"{directory.parent.name}: {directory.name}"
        beside = self._path.with_name("report.html")  # a run may lie in a read-only place, such as a Kaggle input
        self.default_output = beside if os.access(directory, os.W_OK) else Path(beside.name)

    def metrics(self) -> Path:
        return self._path


class _StoredRun:
    """A run in an external storage, which its training machine exports to."""

    def __init__(self, name: str, config: Path) -> None:
        from hw_asr.storage.catalogue import Catalogue

        self._catalogue = Catalogue.read(config)
        self._run = self._catalogue.find_run(name)
        self.title = f"{self._run.experiment}: {self._run.name}"
        self.default_output = Path(f"{self._run.experiment}-{self._run.name}.html")
        directory = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._path = Path(directory, METRICS_NAME)

    def metrics(self) -> Path:
        if METRICS_NAME not in self._catalogue.files(self._run, checksums=False):
            raise ReportError(
                f"run {self._run}: no {METRICS_NAME} in the storage yet; it comes with the first checkpoint"
            )
        self._catalogue.storage.download(self._run, METRICS_NAME, self._path)
        return self._path
