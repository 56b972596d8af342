"""Trains a recogniser: python train.py -c config.json; the same as `hw-asr train`."""

from __future__ import annotations

from hw_asr.cli.main import run
from hw_asr.runtime.entry_point import run_command


def main() -> int:
    """Run the command; return the exit code."""
    return run("train")


if __name__ == "__main__":
    run_command(main)
