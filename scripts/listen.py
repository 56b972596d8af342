"""Recognises a microphone, a pipe or a file live; the same as `hw-asr listen`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hw_asr.cli.main import run
from hw_asr.runtime.entry_point import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    return run("listen", arguments)


if __name__ == "__main__":
    run_command(main)
