"""Loads the utterances of a corpus as training does and prints processor seconds and peak memory in MB
after each step, as JSON.

`python -m benchmarks.index PATH`: a manifest, or a directory with LibriSpeech's train-clean-100. `benchmarks.growth`
makes such corpora of any size and runs this script on them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.growth_data import CORPUS, FRAMES_PER_SECOND, SAMPLE_RATE
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.librispeech import LibrispeechDataset
from hw_asr.datasets.manifest import consume, select, split_alignable
from hw_asr.datasets.samplers import Shard
from hw_asr.datasets.samplers_by_duration import GroupLengthBatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.text.encoder import CTCCharTextEncoder

T = TypeVar("T")


def existing(text: str) -> Path:
    """Return the path of a corpus that is there: for another one the dataset would start a download."""
    path = Path(text)
    if not path.is_file() and not (path / CORPUS).is_dir():
        raise argparse.ArgumentTypeError(f"{path}: neither a manifest nor a directory with {CORPUS}")
    return path


def main(path: Path) -> None:
    """List, filter and pack the utterances of a corpus and make an epoch of batches."""
    corpus = CustomAudioDataset(path) if path.is_file() else LibrispeechDataset(CORPUS, data_dir=path)
    encoder = CTCCharTextEncoder()
    costs: dict[str, tuple[float, int]] = {}

    def num_frames(durations: Sequence[float]) -> list[int]:
        return [int(seconds * FRAMES_PER_SECOND) for seconds in durations]

    def timed(step: str, run: Callable[[], T]) -> T:
        started = time.process_time()
        result = run()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        costs[step] = round(time.process_time() - started, 2), peak_mb
        return result

    utterances, _ = timed("list", corpus.utterances)
    utterances, _ = timed(
        "filter",
        partial(select, consume(utterances), encoder.normalize, str(path), max_audio_length=15.0, max_text_length=240),
    )
    utterances, _ = timed("alignable", partial(split_alignable, utterances, encoder, num_frames))
    dataset = timed("pack", partial(SpeechDataset, consume(utterances), encoder, SAMPLE_RATE))
    timed("batches", lambda: list(GroupLengthBatchSampler(20, Shard(dataset.durations))))
    print(json.dumps(costs), flush=True)
    os._exit(0)  # unloading torch's libraries reads 120 MB of them


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=existing, metavar="PATH")
    main(parser.parse_args().path)
