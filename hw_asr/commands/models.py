"""Lists, downloads and uploads the checkpoints on an external storage. `options` are those of `hw_asr.cli.models`."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from hw_asr.storage.catalogue import BEST, LATEST, Catalogue, choose, nearest_of
from hw_asr.storage.external import UNKNOWN_SIZE, Progress, RemoteFile, RemoteRun, StorageError
from hw_asr.storage.run_names import CONFIG_NAME, METRICS_NAME, RunId, is_safe_name
from hw_asr.storage.run_status import STATUS_NAME, RunStatus, read_status
from hw_asr.storage.runs import Run

_TABLE_GAP = "  "


def show(options: argparse.Namespace) -> None:
    """Print the runs of the storage, or the files of one run, as a table or as JSON."""
    catalogue = Catalogue.read(options.config)
    if options.run is not None:
        files = catalogue.files(catalogue.find_run(options.run)).values()
        if options.json:
            rows = [{**file._asdict(), "modified": _iso(file.modified)} for file in files]
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            _print_table(
                ("file", "size", "changed", "md5"),
                [(file.name, _size(file.size), _date(file.modified), file.md5 or "unknown") for file in files],
            )
        return
    runs = [_summary(catalogue, run) for run in catalogue.storage.runs()]
    if options.json:
        print(json.dumps([run.to_dict() for run in runs], indent=2, ensure_ascii=False))
    else:
        _print_table(("run", "changed", "size", "step", "state", "best so far", ""), [run.cells() for run in runs])


@dataclass(frozen=True)
class _Summary:
    """One line of the list of runs."""

    run: RunId
    modified: float
    size: int
    status: RunStatus | None
    is_best: bool

    def to_dict(self) -> dict[str, object]:
        status = self.status
        return {
            "run": str(self.run), "modified": _iso(self.modified), "best": self.is_best, "size": self.size,
            "step": status.step if status else None, "state": status.state if status else None,
            "metric": status.best if status else None,
        }  # fmt: skip

    def cells(self) -> tuple[str, ...]:
        status = self.status
        known = (str(status.step), status.state, status.best) if status else ("", "", "")
        return (str(self.run), _date(self.modified), _size(self.size), *known, BEST if self.is_best else "")


def _summary(catalogue: Catalogue, run: RemoteRun) -> _Summary:
    files = catalogue.storage.files(run.id, checksums=False)
    known = UNKNOWN_SIZE not in [file.size for file in files]
    modified = max([run.modified, *(file.modified for file in files)])
    status = read_status(catalogue.storage, run.id) if STATUS_NAME in [file.name for file in files] else None
    size = sum(file.size for file in files) if known else UNKNOWN_SIZE
    return _Summary(run.id, modified, size, status, run.id == catalogue.best_run)


def download(options: argparse.Namespace) -> None:
    """Download a run's config and checkpoints; print the paths."""
    catalogue = Catalogue.read(options.config)
    only_latest = options.run is None and len(options.names) == 1 and options.names[0] == LATEST
    run = catalogue.find_run(options.run or (LATEST if only_latest else BEST))
    local = Run.below(options.path, run)
    # Some storages read every file of the run for its checksum, which only files that are here already need.
    config, *checkpoints = catalogue.find_files(run, options.names, checksums=local.model_dir.is_dir())
    for file in (config, *checkpoints):
        _fetch(catalogue, run, file, local.model_dir / file.name)
    metrics = catalogue.files(run, checksums=False).get(METRICS_NAME)
    if metrics is not None and not local.metrics_path.exists():  # so that `train.py -r` continues the record
        _fetch(catalogue, run, metrics, local.metrics_path)
    paths = [str((local.model_dir / file.name).absolute()) for file in checkpoints]
    if options.json:
        described = {"run": str(run), "config": str(local.config_path.absolute()), "checkpoints": paths}
        print(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        print("\n".join(paths))


def _fetch(catalogue: Catalogue, run: RunId, file: RemoteFile, path: Path) -> None:
    if file.is_copied_to(path):
        print(f"{file.name}: already downloaded and verified", file=sys.stderr)
        return
    if path.is_file() and file.size == UNKNOWN_SIZE and file.md5 is None:
        print(f"{file.name}: already here; the storage has no checksum; delete it to download again", file=sys.stderr)
        return
    with _progress(file.name) as progress:
        catalogue.storage.download(run, file.name, path, progress)


def upload(options: argparse.Namespace) -> None:
    """Upload a run's config and checkpoints; files that are already there are not sent again."""
    catalogue = Catalogue.read(options.config)
    run = RunId.parse(options.run)
    local = Run.below(options.path, run)
    if not local.model_dir.is_dir():
        known = [str(known_run.id) for known_run in Run.all_below(options.path)]
        raise StorageError(f"run {run}: not in {options.path}{nearest_of(str(run), known)}")
    times = {path.name: path.stat().st_mtime for path in local.checkpoints()}
    names = list(dict.fromkeys([CONFIG_NAME, *(choose(name, times) for name in options.names)]))
    for name in names:
        if not is_safe_name(name):
            raise StorageError(f"{name}: give the name of a checkpoint in {local.model_dir}, such as last.pth")
        if not (local.model_dir / name).is_file():
            raise StorageError(f"{local.model_dir}: has no {name}{nearest_of(name, [CONFIG_NAME, *times])}")
        if name != CONFIG_NAME and not zipfile.is_zipfile(local.model_dir / name):
            raise StorageError(f"{local.model_dir / name}: not a whole checkpoint; nothing was uploaded")
    catalogue.storage.check_writable()
    present = {file.name: file for file in catalogue.storage.files(run)}
    for name in names:
        if name in present and present[name].is_copied_to(local.model_dir / name):
            print(f"{name}: already on the storage, identical", file=sys.stderr)
            continue
        with _progress(name) as progress:
            catalogue.storage.upload(local.model_dir / name, run, name, progress)
    if options.json:
        print(json.dumps({"run": str(run), "files": names}, indent=2, ensure_ascii=False))


def login(options: argparse.Namespace) -> None:
    """Log in where the storage needs it, and check that uploads are possible."""
    catalogue = Catalogue.read(options.config)
    catalogue.storage.check_writable()
    print(json.dumps({"writable": True}) if options.json else "Uploads to this storage are possible.")


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        yield show


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print(_TABLE_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _size(size: int) -> str:
    if size == UNKNOWN_SIZE:
        return "unknown"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _date(seconds: float) -> str:
    if not seconds:
        return "unknown"
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # storages state times that no calendar has
        return "unknown"


def _iso(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
