"""Made-up corpora of any size, for `benchmarks.growth`: real files and texts of the usual length."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

WORDS = ["THE", "OF", "AND", "TO", "A", "IN", "THAT", "HE", "WAS", "IT", "HIS", "WITH", "AS", "FOR", "HAD", "WHICH"]
SECONDS = range(2, 17)
SAMPLE_RATE = 1000
FRAMES_PER_SECOND = 25
"""Output of the network."""
CORPUS: Final = "train-clean-100"


def write_recordings(directory: Path) -> None:
    """Write 1000 recordings of 2 to 16 s, quiet noise at 1 kHz; all of one length are hard links to one file."""
    directory.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-3, 4, SAMPLE_RATE * SECONDS[-1]).astype(np.int16)
    for number in range(1000):
        path = directory / f"{number:03}.flac"
        if number < len(SECONDS):
            soundfile.write(path, noise[: SAMPLE_RATE * SECONDS[number]], SAMPLE_RATE)
        else:
            os.link(directory / f"{number % len(SECONDS):03}.flac", path)


def random_texts(num: int) -> Iterator[str]:
    """Yield texts of about 14 characters per second, for the recordings in turn."""
    random = np.random.default_rng(0)
    texts = [[" ".join(random.choice(WORDS, 4 * seconds)) for _ in range(100)] for seconds in SECONDS]
    for number, chosen in enumerate(random.integers(0, 100, num)):
        yield texts[number % 1000 % len(SECONDS)][chosen]


def write_corpus(part: Path, num: int) -> None:
    """Write `num` utterances in LibriSpeech's layout, 100 in a chapter, 1000 of a speaker."""
    lines: list[str] = []
    for number, text in enumerate(random_texts(num)):
        speaker, chapter, place = number // 1000, number // 100, number % 100
        recordings, directory = part.parent / f"recordings/{speaker}", part / f"{speaker}/{chapter}"
        if number % 1000 == 0:
            write_recordings(recordings)
        if place == 0:
            directory.mkdir(parents=True)
        name = f"{speaker}-{chapter}-{place:04}"
        os.link(recordings / f"{number % 1000:03}.flac", directory / f"{name}.flac")
        lines.append(f"{name} {text}\n")
        if place == 99 or number == num - 1:
            (directory / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
            lines.clear()


def write_manifest(path: Path, num: int) -> None:
    """Write `num` utterances; their paths differ, but the directories in them are links to one directory."""
    write_recordings(path.parent / "recordings")
    with path.open("w") as file:
        for number, text in enumerate(random_texts(num)):
            speaker = f"speaker-{number // 1000:04}"
            if number % 1000 == 0:
                (path.parent / speaker).symlink_to("recordings")
            seconds = SECONDS[number % 1000 % len(SECONDS)]
            row = {"path": f"{speaker}/{number % 1000:03}.flac", "text": text, "duration": seconds, "speaker": speaker}
            file.write(json.dumps(row) + "\n")
