"""Makes the speech corpus that ships with the project: `python -m scripts.demo_corpus.make` (needs espeak-ng)."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.entry_point import run_command
from scripts.demo_corpus.grammar import Grammar, command_of
from scripts.demo_corpus.speakers import Speaker, draw_speakers

SIZES = {"train": (2600, 60), "dev": (200, 8), "test": (300, 12)}
"""Utterances and speakers of each split."""
MAX_REPEATS = {"train": 6, "dev": 1, "test": 1}
"""How often a sentence may occur in a split, with different speakers."""
SAMPLE_RATE = 16_000
SYNTHESIS_RATE = 22_050
OPUS_LEVEL = 0.975
"""libsndfile's compression level; about 16 kbit/s."""
MARGIN_SECONDS = 0.1
PEAKS_DB = (-12.0, -3.0)
DURATIONS = (0.7, 3.6)
"""Shortest and longest utterance, seconds."""


class Line(NamedTuple):
    """An utterance to synthesise: its file, text, speaker and peak."""

    path: str
    text: str
    speaker: Speaker
    peak_db: float


def split_of(sentence: str) -> str:
    """Return the split of a sentence, which depends on its text only: 80 % train, 8 % dev, 12 % test."""
    share = zlib.crc32(command_of(sentence).encode()) % 100
    return "test" if share < 12 else "dev" if share < 20 else "train"


def plan(seed: int) -> dict[str, list[Line]]:
    """Assign sentences to speakers; no sentence and no voice of one split occurs in another."""
    generator = random.Random(seed)
    grammar = Grammar(seed)
    speakers = {split: draw_speakers(split, num, generator) for split, (_, num) in SIZES.items()}
    lines: dict[str, list[Line]] = {split: [] for split in SIZES}
    said: Counter[str] = Counter()
    while any(len(lines[split]) < num for split, (num, _) in SIZES.items()):
        sentence = grammar.sentence()
        split = split_of(sentence)
        index = len(lines[split])
        if index == SIZES[split][0] or said[command_of(sentence)] == MAX_REPEATS[split]:
            continue
        said[command_of(sentence)] += 1
        speaker = speakers[split][index % len(speakers[split])]
        path = f"{split}/{speaker.id}-{index // len(speakers[split]):03d}.opus"
        lines[split].append(Line(path, sentence, speaker, generator.uniform(*PEAKS_DB)))
    return lines


def synthesize(line: Line) -> NDArray[np.float64]:
    """Synthesise a line; return mono samples at SAMPLE_RATE, trimmed and scaled to its peak."""
    command = ["espeak-ng", *line.speaker.options, "--stdout", line.text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples = np.frombuffer(wav[44:], "<i2") / 32768  # the header's length is wrong on a pipe
    samples = trim(soxr.resample(samples, SYNTHESIS_RATE, SAMPLE_RATE, quality="VHQ"))
    samples *= 10 ** (line.peak_db / 20) / np.abs(samples).max()
    return samples


def trim(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trim to MARGIN_SECONDS before and after the part that is louder than -40 dB below the peak."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = int(MARGIN_SECONDS * SAMPLE_RATE)
    padded = np.pad(samples, margin)
    return padded[loud[0] : loud[-1] + 1 + 2 * margin]


def record(line: Line, directory: Path) -> dict[str, str | float]:
    """Write one utterance and return its entry in the manifest."""
    samples = synthesize(line)
    path = directory / line.path
    soundfile.write(path, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
    duration = len(samples) / SAMPLE_RATE
    if not DURATIONS[0] <= duration <= DURATIONS[1]:
        print(f"{line.path}: {duration:.2f} s is out of {DURATIONS}: {line.text}", file=sys.stderr)
    return {"path": line.path, "text": line.text, "duration": round(duration, 3), "speaker": line.speaker.id}


def make(directory: Path, seed: int, jobs: int) -> None:
    """Write all splits under `directory`, replacing existing files."""
    for split, lines in plan(seed).items():
        shutil.rmtree(directory / split, ignore_errors=True)
        (directory / split).mkdir(parents=True)
        with ThreadPoolExecutor(jobs) as pool:
            entries = list(tqdm(pool.map(lambda line: record(line, directory), lines), split, len(lines), disable=None))
        with write_and_rename(directory / f"{split}.jsonl") as file:
            file.writelines(f"{json.dumps(entry)}\n".encode() for entry in entries)


def main() -> int:
    """Run from the command line; return 0."""
    parser = argparse.ArgumentParser(description="Make the demo corpus with espeak-ng.")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo/corpus"), help="directory (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="selects sentences and voices (%(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes of espeak-ng at a time (%(default)s)")
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng is not installed; the corpus it made is in demo/corpus")
    make(arguments.output, arguments.seed, arguments.jobs)
    return 0


if __name__ == "__main__":
    run_command(main)
