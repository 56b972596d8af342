"""Transcribes and scores recordings: python test.py -r checkpoint -t folder; the same as `hw-asr test`."""

from __future__ import annotations

from hw_asr.cli.main import run
from hw_asr.runtime.entry_point import run_command


def main() -> int:
    """Run the command; return the exit code."""
    return run("test")


if __name__ == "__main__":
    run_command(main)
