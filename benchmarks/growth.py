"""Processor time and peak memory as the data grows: `python -m benchmarks.growth [PART ...] [--quick]`.

Every figure is of a process of its own. `fixed` is the cost at the smallest size, mostly for importing libraries; the
last two columns divide what is above it by the number of utterances, recordings or words. A part grows no faster than
its data if these two columns do not rise. Processor time includes the processes that load data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.growth_data import CORPUS, FRAMES_PER_SECOND, SAMPLE_RATE, write_corpus, write_manifest
from benchmarks.language_model_build import BUILD, write_text

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS, BATCH_SIZE = 500, 8
SIZES = {
    "index": (1000, 10_000, 100_000, 1_000_000),
    "manifest": (1000, 10_000, 100_000, 1_000_000),
    "train": (1000, 10_000, 100_000, 1_000_000),
    "test": (10, 100, 1000, 10_000),
    "lm": (30_000, 300_000, 3_000_000, 30_000_000),
}
"""Utterances, recordings or words. The first one gives the fixed cost."""
CHILD_POLL_S = 0.25


class Memory(NamedTuple):
    """Mean memory of one worker process, in MB."""

    shared: float
    """PSS: a page that several processes share counts for each of them in proportion."""
    own: float
    """USS: pages that no other process has."""


class Cost(NamedTuple):
    """What a process used."""

    cpu_s: float
    peak_mb: float
    worker: Memory
    """The largest seen; 0 without workers."""
    output: str


Measurements = Iterator[tuple[str, Cost]]


def measure(command: list[str], directory: Path, threads: int = 1) -> Cost:
    """Run a command of this project in `directory`; exits with its message if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    worker = Memory(0.0, 0.0)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        pid = 0
        while not pid:
            time.sleep(CHILD_POLL_S)
            worker = max(worker, _worker_memory(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{printed}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, worker, printed)


def _worker_memory(pid: int) -> Memory:
    """Return the mean memory of the child processes of a process."""
    rows = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {name: int(value.split()[0]) / 1024 for name, value in (line.split(":") for line in lines)}
            rows.append((sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]))
    except (OSError, KeyError):  # the process has ended
        return Memory(0.0, 0.0)
    return Memory(*np.mean(rows, axis=0)) if rows else Memory(0.0, 0.0)


def train_config(directory: Path, num_workers: int) -> list[str]:
    """Write a config with a tiny network and return the command that trains a fixed number of steps."""

    def split(manifest: str, **settings: object) -> dict[str, object]:
        datasets = [{"type": "CustomAudioDataset", "args": {"data": str(directory / manifest)}}]
        return {"datasets": datasets, "num_workers": num_workers, **settings}

    sampler = {"type": "GroupLengthBatchSampler", "args": {"batch_size": BATCH_SIZE}}
    mel = {"type": "MelSpectrogram", "args": {"n_fft": 64, "hop_length": SAMPLE_RATE // FRAMES_PER_SECOND, "n_mels": 8}}
    config = {
        "name": f"growth{num_workers}",
        "preprocessing": {"sr": SAMPLE_RATE, "spectrogram": mel, "log_spec": True},
        "arch": {"type": "BaselineModel", "args": {"fc_hidden": 16}},
        "data": {
            "train": split("data.jsonl", batch_sampler=sampler),
            "dev": split("dev/data.jsonl", batch_size=BATCH_SIZE),
        },
        "optimizer": {"type": "AdamW", "args": {"lr": 0.001}},
        "metrics": [{"type": "ArgmaxCERMetric"}],
        "trainer": {"epochs": 1, "len_epoch": NUM_STEPS, "monitor": "min dev_loss", "num_threads": 1},
    }
    path = directory / f"config{num_workers}.json"
    path.write_text(json.dumps(config))
    return [str(ROOT / "train.py"), "-c", str(path), "-d", "cpu"]


def index(directory: Path, num: int) -> Measurements:
    """LibriSpeech's layout: the index is made, then loaded."""
    write_corpus(directory / CORPUS, num)
    command = ["-m", "benchmarks.index", str(directory)]
    yield "index made", measure(command, directory)
    yield "index loaded", measure(command, directory)


def manifest(directory: Path, num: int) -> Measurements:
    """A manifest with durations."""
    write_manifest(directory / "data.jsonl", num)
    yield "manifest", measure(["-m", "benchmarks.index", str(directory / "data.jsonl")], directory)


def train(directory: Path, num: int) -> Measurements:
    """A training run of a fixed number of steps."""
    write_manifest(directory / "data.jsonl", num)
    write_manifest(directory / "dev/data.jsonl", 100)
    for num_workers in (0, 2):
        yield f"train, {num_workers} workers", measure(train_config(directory, num_workers), directory)


def test(directory: Path, num: int, checkpoint: Path) -> Measurements:
    """Recordings of the demo, transcribed with argmax and beam search, with a report."""
    rows = [json.loads(line) for line in (ROOT / "demo/corpus/test.jsonl").read_text().splitlines()]
    with (directory / "data.jsonl").open("w") as file:
        for number in range(num):
            copy, row = f"copy-{number // len(rows):04}", rows[number % len(rows)]
            if number % len(rows) == 0:
                (directory / copy).symlink_to(ROOT / "demo/corpus")
            file.write(json.dumps({**row, "path": f"{copy}/{row['path']}"}) + "\n")
    (directory / "decoders.json").write_text(json.dumps({"decoders": [{"type": "argmax"}, {"type": "beam_search"}]}))
    command = [str(ROOT / "test.py"), "-r", str(checkpoint), "-c", str(directory / "decoders.json"), "-d", "cpu"]
    options = ["-t", str(directory / "data.jsonl"), "-o", "output.json", "--report", "report.html", "-j", "0"]
    yield "test", measure([*command, *options], directory)


def language_model(directory: Path, num: int) -> Measurements:
    """A trigram of random text with Zipf's frequencies."""
    write_text(directory / "text.txt", num, num_types=max(200_000, num // 15))  # some words must occur only once
    command = [str(BUILD), "--text", str(directory / "text.txt"), "-o", str(directory / "lm.arpa")]
    yield "language model", measure(command, directory)


def main() -> None:
    """Measure the chosen parts at every size and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(SIZES)}")
    parser.add_argument("-r", "--resume", type=Path, metavar="CKPT", help="checkpoint of the demo, for test")
    parser.add_argument("--quick", action="store_true", help="leave out the largest size")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(SIZES))
    parts = options.parts or list(SIZES)
    if unknown:
        parser.error(f"unknown part: {', '.join(unknown)}; choose from {', '.join(SIZES)}")
    if "test" in parts and options.resume is None:
        parser.error("test: give a checkpoint of the demo with -r")
    run = {
        "index": index,
        "manifest": manifest,
        "train": train,
        "test": lambda directory, num: test(directory, num, options.resume.absolute()),
        "lm": language_model,
    }
    print(f"{'':18}{'size':>11}{'CPU s':>9}{'peak MB':>9}{'us each':>9}{'bytes each':>11}  a worker: PSS, USS MB")
    for part in parts:
        fixed: dict[str, Cost] = {}
        sizes = SIZES[part][: -1 if options.quick else None]
        for number, size in enumerate((sizes[0], *sizes)):
            with tempfile.TemporaryDirectory() as directory:
                for name, cost in run[part](Path(directory), size):
                    if number > 0:  # the first run may compile kernels
                        _print(name, size, cost, fixed.setdefault(name, cost))


def _print(name: str, size: int, cost: Cost, fixed: Cost) -> None:
    microseconds = 1e6 * (cost.cpu_s - fixed.cpu_s) / size
    num_bytes = 2**20 * (cost.peak_mb - fixed.peak_mb) / size
    worker = f"{cost.worker.shared:9.0f}{cost.worker.own:9.0f}" if cost.worker.shared else ""
    steps = f"  {cost.output.splitlines()[-1]}" if "{" in cost.output else ""
    each = "" if cost is fixed else f"{microseconds:9.1f}{num_bytes:11.0f}"
    print(f"{name:18}{size:11}{cost.cpu_s:9.1f}{cost.peak_mb:9.0f}{each:20}{worker}{steps}", flush=True)


if __name__ == "__main__":
    main()
