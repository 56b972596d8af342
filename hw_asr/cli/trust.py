"""The options by which a person trusts a config that came with a checkpoint."""

from __future__ import annotations

import argparse


def add_trust_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--allow-module` and `--trust-config`."""
    parser.add_argument("--allow-module", action="append", default=[], metavar="NAME", dest="allowed_modules",
        help="let the checkpoint's own config import this module; repeatable")  # fmt: skip
    parser.add_argument("--trust-config", action="store_true",
        help="let the checkpoint's own config use its storages, addresses and paths")  # fmt: skip
