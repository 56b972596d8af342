"""List, download and upload checkpoints on an external storage: Google Drive, a directory, S3 and others."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hw_asr.cli.recipes import config_path
from hw_asr.runtime.entry_point import INTERRUPTED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c", "--config", type=config_path, default=Path("gdrive_storage/external_storage.json"),
        help="storage config, or an experiment's config with a storage (default: %(default)s)",
    )  # fmt: skip
    common.add_argument("--json", action="store_true", help="print JSON")
    local = argparse.ArgumentParser(add_help=False)
    local.add_argument(
        "-p", "--path", type=Path, default=Path("saved/models"), help="local directory of runs (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", parents=[common], help="list the runs on the storage, or the files of one")
    listing.add_argument("--run", metavar="EXP:RUN", help="list the files of this run; also: latest, best")

    download = commands.add_parser(
        "download", parents=[common, local], help="download checkpoints and their config",
        description="Downloads a run's config and checkpoints to PATH/EXP/RUN and prints each checkpoint's full path. "
        "Files that are already there are verified and not downloaded again.",
    )  # fmt: skip
    download.add_argument("names", nargs="*", metavar="NAME", help="checkpoints; also: latest, best (the default)")
    download.add_argument("--run", metavar="EXP:RUN", help="also: latest, best (the default)")

    upload = commands.add_parser("upload", parents=[common, local], help="upload checkpoints and their config")
    upload.add_argument("names", nargs="+", metavar="NAME", help="checkpoints; also: latest, best")
    upload.add_argument("--run", metavar="EXP:RUN", required=True)

    commands.add_parser("login", parents=[common], help="log in for uploads, and check that they are possible")


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; return the exit code."""
    from hw_asr.commands import models

    commands = {
        "list": models.show, "download": models.download, "upload": models.upload, "login": models.login
    }  # fmt: skip
    try:
        commands[options.command](options)
    except KeyboardInterrupt:
        print("\ninterrupted; partial files were removed", file=sys.stderr)
        return INTERRUPTED
    return 0
