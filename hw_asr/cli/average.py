"""Average the weights of several checkpoints into one for evaluation or fine-tuning.

example:
  hw-asr average saved/models/EXP/RUN/checkpoint-epoch*.pth -o saved/models/EXP/RUN/average.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CKPT", help="the newest last")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CKPT",
                        help="best in the directory of the others, which has their config.json")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Write the average; return 0."""
    from hw_asr.commands.average import average_checkpoints

    average_checkpoints(options.checkpoints, options.output)
    print(f"written: {options.output}, the average of {len(options.checkpoints)} checkpoints")
    return 0
