"""Train a speech recogniser: python train.py -c config.json; see python train.py --help."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hw_asr.runtime.entry_point import run_command


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so that --help is quick."""
    parser = argparse.ArgumentParser(description="Train a CTC speech recogniser from one JSON file.")
    parser.add_argument("-c", "--config", type=Path, help="the experiment's JSON")
    parser.add_argument("-r", "--resume", type=Path, metavar="CKPT", help="alone: continue that run where it stopped; "
                        "with -c: start a new run from that checkpoint's weights")  # fmt: skip
    parser.add_argument("-d", "--device", help="GPU indices, as 0 or 0,1, or cpu; default: all GPUs, else cpu")
    parser.add_argument("--lr", "--learning_rate", type=float, help="overrides optimizer.args.lr")
    parser.add_argument("--bs", "--batch_size", type=int, help="overrides data.train.batch_size")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="override any key by dotted path, as trainer.epochs=3; repeatable")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="validate, say what would run, and end")
    parser.add_argument("--check-batch", action="store_true",
                        help="as --check, and take one step on the longest batch of the training data")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.config is None and options.resume is None:
        parser.error("give a config with -c, a checkpoint with -r, or both")
    return options


def main() -> int:
    """Run the command; return the exit code: 0, 1 for an error, 2 for a bad config, 130 or 143 for a signal."""
    options = parse_arguments()
    from hw_asr.commands.train import check, check_batch, train
    from hw_asr.config import ConfigError
    from hw_asr.errors import UserError

    assignments = list(options.assignments)
    if options.lr is not None:
        assignments.append(f"optimizer.args.lr={json.dumps(options.lr)}")
    if options.bs is not None:
        assignments.append(f"data.train.batch_size={options.bs}")
    try:
        run = check_batch if options.check_batch else check if options.check else train
        return run(options.config, options.resume, assignments, options.device)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    run_command(main)
