"""Brings checkpoints from an external storage and takes them there: list, download, upload, login."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hw_asr.errors import UserError
from hw_asr.runtime.entry_point import INTERRUPTED, run_command
from hw_asr.storage.catalogue import BEST, LATEST, Catalogue, choose, nearest_of
from hw_asr.storage.external import Progress, RemoteFile, StorageError
from hw_asr.storage.runs import CONFIG_NAME, Run, RunId

_TABLE_GAP = "  "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parser().parse_args(arguments)
    commands = {"list": _list, "download": _download, "upload": _upload, "login": _login}
    try:
        commands[args.command](args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; no half file was left", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c",
        "--config",
        type=Path,
        default=Path("gdrive_storage/external_storage.json"),
        help="storage config, or an experiment's config with a storage (default: %(default)s)",
    )
    common.add_argument("--json", action="store_true", help="print JSON for programs")
    local = argparse.ArgumentParser(add_help=False)
    local.add_argument(
        "-p", "--path", type=Path, default=Path("saved/models"), help="where runs lie here (default: %(default)s)"
    )
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", parents=[common], help="runs on the storage, or the files of one")
    listing.add_argument("--run", metavar="EXP:RUN", help="list the files of this run; also: latest, best")

    download = commands.add_parser(
        "download",
        parents=[common, local],
        help="bring checkpoints and their config",
        description="Brings a run's config and checkpoints to PATH/EXP/RUN and prints each checkpoint's full path. "
        "What is there already is checked and not fetched again.",
    )
    download.add_argument("names", nargs="*", metavar="NAME", help="checkpoints; also: latest, best (the default)")
    download.add_argument("--run", metavar="EXP:RUN", help="also: latest, best (the default)")

    upload = commands.add_parser("upload", parents=[common, local], help="take checkpoints and their config there")
    upload.add_argument("names", nargs="+", metavar="NAME", help="checkpoints; also: latest, best")
    upload.add_argument("--run", metavar="EXP:RUN", required=True)

    commands.add_parser("login", parents=[common], help="log in for uploads, and check that they are possible")
    return parser


def _list(args: argparse.Namespace) -> None:
    catalogue = Catalogue.read(args.config)
    if args.run is not None:
        files = catalogue.files(catalogue.find_run(args.run)).values()
        if args.json:
            rows = [{**file._asdict(), "modified": _iso(file.modified)} for file in files]
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            _print_table(
                ("file", "size", "changed", "md5"),
                [(file.name, _size(file.size), _date(file.modified), file.md5 or "unknown") for file in files],
            )
        return
    runs = catalogue.storage.runs()
    if args.json:
        found = [
            {"run": str(run.id), "modified": _iso(run.modified), "best": run.id == catalogue.best_run} for run in runs
        ]
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_table(
            ("run", "changed", ""),
            [(str(run.id), _date(run.modified), BEST if run.id == catalogue.best_run else "") for run in runs],
        )


def _download(args: argparse.Namespace) -> None:
    catalogue = Catalogue.read(args.config)
    by_itself = args.run is None and len(args.names) == 1 and args.names[0] == LATEST
    run = catalogue.find_run(args.run or (LATEST if by_itself else BEST))
    local = Run.below(args.path, run)
    config, *checkpoints = catalogue.find_files(run, args.names)
    for file in (config, *checkpoints):
        _fetch(catalogue, run, file, local.model_dir / file.name)
    paths = [str((local.model_dir / file.name).absolute()) for file in checkpoints]
    if args.json:
        described = {"run": str(run), "config": str(local.config_path.absolute()), "checkpoints": paths}
        print(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        print("\n".join(paths))


def _fetch(catalogue: Catalogue, run: RunId, file: RemoteFile, path: Path) -> None:
    if file.is_copied_to(path):
        print(f"{file.name}: here already, and whole", file=sys.stderr)
        return
    with _progress(file.name) as progress:
        catalogue.storage.download(run, file.name, path, progress)


def _upload(args: argparse.Namespace) -> None:
    catalogue = Catalogue.read(args.config)
    run = RunId.parse(args.run)
    local = Run.below(args.path, run)
    if not local.model_dir.is_dir():
        known = [str(each.id) for each in Run.all_below(args.path)]
        raise StorageError(f"run {run}: not in {args.path}{nearest_of(str(run), known)}")
    times = {path.name: path.stat().st_mtime for path in local.checkpoints()}
    names = list(dict.fromkeys([CONFIG_NAME, *(choose(name, times) for name in args.names)]))
    for name in names:
        if not (local.model_dir / name).is_file():
            raise StorageError(f"{local.model_dir}: has no {name}{nearest_of(name, [CONFIG_NAME, *times])}")
    catalogue.storage.check_writable()
    present = {file.name: file for file in catalogue.storage.files(run)}
    for name in names:
        if name in present and present[name].is_copied_to(local.model_dir / name):
            print(f"{name}: there already, and the same", file=sys.stderr)
            continue
        with _progress(name) as progress:
            catalogue.storage.upload(local.model_dir / name, run, name, progress)
    if args.json:
        print(json.dumps({"run": str(run), "files": names}, indent=2, ensure_ascii=False))


def _login(args: argparse.Namespace) -> None:
    catalogue = Catalogue.read(args.config)
    catalogue.storage.check_writable()
    print(json.dumps({"writable": True}) if args.json else "Uploads to this storage are possible.")


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
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


if __name__ == "__main__":
    run_command(main)
