"""Export a checkpoint to ONNX, for recognition without torch.

python scripts/export.py -r saved/models/EXP/RUN/model_best.pth -o model.onnx
python test.py -r model.onnx -t my_folder
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-r", "--resume", type=Path, required=True, metavar="CKPT",
        help="checkpoint; uses the config.json beside it, or else the one inside it")  # fmt: skip
    add("-c", "--config", type=config_path, metavar="OVERLAY",
        help="JSON whose top-level sections replace those of the checkpoint's config")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="MODEL", help="the file to write, such as model.onnx")
    add("--int8", action="store_true", help="store weights as 8-bit integers: a quarter of the size, the same speed")
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Write the model; return 0."""
    from hw_asr.commands import export

    return export.run(options)
