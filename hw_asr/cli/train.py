"""Train a CTC speech recogniser from one JSON file."""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError
from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-c", "--config", type=config_path, help="the experiment's JSON")
    add("-r", "--resume", type=Path, metavar="CKPT", help="alone: continue that run where it stopped; "
        "with -c: start a new run from that checkpoint's weights")  # fmt: skip
    add("--auto-resume", action="store_true",
        help="with -c: continue the newest run of this config, here or in its storage, or start one")  # fmt: skip
    add("-d", "--device", help="GPU indices, as 0 or 0,1, or cpu; default: all GPUs, else cpu")
    add("--lr", "--learning_rate", type=float, help="the learning rate: optimizer.args.lr, and max_lr under OneCycleLR")
    add("--bs", "--batch_size", type=int, help="overrides data.train.batch_size")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="override any key by dotted path, as trainer.epochs=3; repeatable")  # fmt: skip
    add(
        "--check",
        action="store_true",
        help="report every fault that would stop training, print what would run, and exit",
    )
    add("--check-batch", action="store_true",
        help="as --check, and take two steps on the longest batch of the training data")  # fmt: skip
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train, continue or check; return the exit code."""
    if options.config is None and options.resume is None:
        raise UsageError("give a config with -c, a checkpoint with -r, or both")
    if options.auto_resume and (options.config is None or options.resume is not None):
        raise UsageError("--auto-resume needs a config with -c, and finds the checkpoint itself")
    assignments = list(options.assignments)
    if options.bs is not None:
        assignments.append(f"data.train.batch_size={options.bs}")
    from hw_asr.commands.train import train
    from hw_asr.commands.train_check import check
    from hw_asr.commands.train_check_batch import check_batch
    from hw_asr.commands.train_request import Request

    command = check_batch if options.check_batch else check if options.check else train
    request = Request(
        options.config, options.resume, assignments, options.device, options.lr,
        frozenset(options.allowed_modules), options.trust_config, options.auto_resume,
    )  # fmt: skip
    return command(request)
