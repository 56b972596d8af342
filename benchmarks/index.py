"""Seconds to make, load and filter the index of a large corpus: `python -m benchmarks.index [--num 100000]`.

The corpus has LibriSpeech's layout and texts of its usual length; its recordings are real files of a few hundred
bytes. Processor and wall seconds, the least of `--repeat` runs. Loading looks at every file, to see whether one has
changed; that share is printed by itself too.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from hw_asr.datasets.index import fingerprint
from hw_asr.datasets.librispeech import LibrispeechDataset
from hw_asr.datasets.manifest import select, split_alignable
from hw_asr.text.encoder import CTCCharTextEncoder

T = TypeVar("T")
WORDS = ["THE", "OF", "AND", "TO", "A", "IN", "THAT", "HE", "WAS", "IT", "HIS", "WITH", "AS", "FOR", "HAD", "WHICH"]
FILES_PER_CHAPTER = 100
FRAMES_PER_SECOND = 25


def write_corpus(part: Path, num: int) -> None:
    """Write `num` utterances of 2 to 16 s, at ten samples per second, and about 14 characters per second."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 4 * seconds)) for seconds in range(2, 17) for _ in range(100)]
    recordings = []
    for seconds in range(2, 17):
        file = io.BytesIO()
        soundfile.write(file, np.zeros(10 * seconds, np.int16), 10, format="FLAC")
        recordings.append(file.getvalue())
    for chapter in range(-(-num // FILES_PER_CHAPTER)):
        directory = part / f"{chapter // 10}" / f"{chapter}"
        directory.mkdir(parents=True)
        chosen = random.integers(0, len(texts), min(FILES_PER_CHAPTER, num - chapter * FILES_PER_CHAPTER)).tolist()
        lines = []
        for number, text in enumerate(chosen):
            identifier = f"{chapter // 10}-{chapter}-{number:04}"
            (directory / f"{identifier}.flac").write_bytes(recordings[text // 100])
            lines.append(f"{identifier} {texts[text]}\n")
        (directory / f"{chapter // 10}-{chapter}.trans.txt").write_text("".join(lines))


def timed(what: str, repeat: int, run: Callable[[], T]) -> T:
    """Print the least processor and wall seconds of `repeat` runs; return the last result."""
    processor, wall = [], []
    for _ in range(repeat):
        started, began = time.process_time(), time.perf_counter()
        result = run()
        processor.append(time.process_time() - started)
        wall.append(time.perf_counter() - began)
    print(f"{what:52}{min(processor):10.2f}{min(wall):10.2f}")
    return result


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    encoder = CTCCharTextEncoder()
    with tempfile.TemporaryDirectory() as directory:
        part = Path(directory) / "train-clean-100"
        write_corpus(part, options.num)
        corpus = LibrispeechDataset("train-clean-100", data_dir=Path(directory))
        print(f"{f'{options.num} utterances, seconds of':52}{'processor':>10}{'wall':>10}")
        timed("making the index", 1, corpus.utterances)
        timed("looking whether a file has changed", options.repeat, lambda: fingerprint(part))
        found, _ = timed("loading the index, that included", options.repeat, corpus.utterances)
        kept = timed(
            "normalising texts, filtering by length",
            options.repeat,
            lambda: select(found, encoder.normalize, "here", max_audio_length=15.0, max_text_length=240).utterances,
        )
        timed(
            "leaving out what CTC cannot align",
            options.repeat,
            lambda: split_alignable(kept, encoder, lambda seconds: int(seconds * FRAMES_PER_SECOND)),
        )


if __name__ == "__main__":
    main()
