"""Time and memory of building a language model: ours beside KenLM's lmplz, on the same text, in turns."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

BUILD = Path(__file__).resolve().parents[1] / "scripts/language_model/build.py"
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


class Cost(NamedTuple):
    """What one run took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def write_text(path: Path, num_words: int, num_types: int = 200_000) -> None:
    """Write random sentences: Zipf's frequencies, and a word often follows from the one before."""
    draw = np.random.default_rng(0)
    letters = draw.choice(_LETTERS, (num_types, 7))
    lengths = draw.integers(2, 8, num_types)
    words = np.array(["".join(row[:length]) for row, length in zip(letters, lengths, strict=True)], dtype=object)
    frequencies = 1 / (np.arange(num_types) + 10)
    cumulative = np.cumsum(frequencies) / frequencies.sum()
    with path.open("w", encoding="utf-8") as file:
        for written in range(0, num_words, 1_000_000):
            ids = np.searchsorted(cumulative, draw.random(min(1_000_000, num_words - written)))
            follows = draw.random(len(ids)) < 0.5
            ids[1:] = np.where(follows[1:], (ids[:-1] * 31 + draw.integers(0, 4, len(ids) - 1)) % num_types, ids[1:])
            for start in range(0, len(ids), 20):
                file.write(" ".join(words[ids[start : start + 20]]) + "\n")


def run(command: list[str], source: Path) -> Cost:
    """Run a command that reads `source` on its standard input and report what the process took."""
    start = time.perf_counter()
    with source.open("rb") as file:
        process = subprocess.Popen(command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed:\n{message}")
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Run both in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, help="sentences, one a line (default: made by code)")
    parser.add_argument("--words", type=int, default=2_000_000, help="length of the text that is made")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--memory", type=int, default=1024, help="MiB for sorting, for both")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lmplz", default=shutil.which("lmplz"), help="KenLM's lmplz (default: from PATH)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        text = args.text or Path(directory, "text.txt")
        if args.text is None:
            write_text(text, args.words)
        model = str(Path(directory, "lm.arpa"))
        order, memory = str(args.order), str(args.memory)
        ours = [sys.executable, str(BUILD), "--text", "-", "--apostrophe", "--order", order, "--memory", memory]
        commands = {"hw_asr": [*ours, "-o", model]}
        if args.lmplz:
            peer = [args.lmplz, "-o", order, "-S", f"{memory}M", "-T", directory, "--arpa", model]
            commands["lmplz"] = peer
        else:
            print("lmplz: not installed, skipped (KenLM's sources are in PyPI's sdist of kenlm; cmake, make lmplz)")
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(args.repeats):
            for name, command in commands.items():
                costs[name].append(run(command, text))
        print(f"{text.stat().st_size / 1e6:.0f} MB of text, order {args.order}, medians of {args.repeats}")
        for name, runs in costs.items():
            wall, cpu, peak = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"{name:<8} {wall:8.1f} s  {cpu:8.1f} s of CPU  {peak:8.0f} MB at most")
        if "lmplz" in costs:
            ratio = statistics.median(a.cpu_s / b.cpu_s for a, b in zip(costs["hw_asr"], costs["lmplz"], strict=True))
            print(f"hw_asr takes {ratio:.1f} times the CPU time of lmplz")


if __name__ == "__main__":
    main()
