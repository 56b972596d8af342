"""Milliseconds from decoded utterances to padded features and targets: `python -m benchmarks.features`.

    python -m benchmarks.features [--manifest corpus.jsonl] [--repeat 7] [--threads 1]

Four ways take turns over the same batches of 20, in one process:

- published: a mel transform made anew for every item; the collate function forks a pool of processes for every batch,
  which pad the items;
- anew: the same transform for every item, padded without a pool;
- kept: the transform made once, applied to item after item;
- ours: samples are padded, features are computed of the batch.

Processor time counts all threads and the pool's processes. Medians over the repetitions, and the ratios to ours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from hw_asr.batch import Example
from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.collate import collate
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.features import FeatureExtractor
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Utterance

RATE = 16_000
BATCH_SIZE = 20
Item = tuple[Tensor, Tensor]
"""Features (F, T) and targets (L,) of an utterance."""


def mel() -> torchaudio.transforms.MelSpectrogram:
    """Make the published transform."""
    return torchaudio.transforms.MelSpectrogram(sample_rate=RATE)


def item_of(example: Example, transform: torchaudio.transforms.MelSpectrogram | None) -> Item:
    """Transform one utterance; without a transform one is made for it."""
    features: Tensor = torch.log((transform or mel())(example.samples[None]) + 1e-5)[0]
    return features, example.targets


def padded(num_frames: int, num_labels: int, item: Item) -> Item:
    """Pad one item with zeros."""
    features, targets = item
    pad = torch.nn.functional.pad
    return pad(features, (0, num_frames - features.shape[1])), pad(targets, (0, num_labels - len(targets)))


def per_item(
    examples: Sequence[Example], transform: torchaudio.transforms.MelSpectrogram | None, forks: bool
) -> tuple[Tensor, Tensor]:
    """Return features (B, F, T) and targets (B, L)."""
    items = [item_of(example, transform) for example in examples]
    pad = partial(padded, max(item[0].shape[1] for item in items), max(len(item[1]) for item in items))
    if forks:
        with multiprocessing.get_context("fork").Pool() as pool:
            items = pool.map(pad, items)
    else:
        items = list(map(pad, items))
    return torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])


def ours(examples: Sequence[Example], front_end: FeatureExtractor) -> tuple[Tensor, Tensor]:
    """Return features (B, F, T) and targets (B, L)."""
    batch = collate(examples)
    features, _ = front_end(batch.samples, batch.sample_lengths)
    return features, batch.targets


def processor_seconds() -> float:
    """Return what this process and those it has waited for have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def compare(batches: Sequence[Sequence[Example]], repeat: int) -> None:
    """Print milliseconds per utterance of all ways, having checked that they give the same features."""
    kept = mel()
    ways: dict[str, Callable[[Sequence[Example]], tuple[Tensor, Tensor]]] = {
        "published": partial(per_item, transform=None, forks=True),
        "anew": partial(per_item, transform=None, forks=False),
        "kept": partial(per_item, transform=kept, forks=False),
        "ours": partial(ours, front_end=FeatureExtractor(MelSpectrogram(RATE), log=True)),
    }
    expected = ways["published"](batches[0])
    for way in ways.values():
        for found, same in zip(way(batches[0]), expected, strict=True):
            torch.testing.assert_close(found, same, atol=1e-4, rtol=1e-4)
    num = sum(map(len, batches))
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            began, wall = processor_seconds(), time.perf_counter()
            for batch in batches:
                way(batch)
            spent[name].append(((processor_seconds() - began) / num * 1e3, (time.perf_counter() - wall) / num * 1e3))
    print(f"{'ms per utterance':18}{'processor':>10}{'ratio':>7}{'wall':>10}{'ratio':>7}")
    medians = {
        name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in spent.items()
    }
    for name, (processor, elapsed) in medians.items():
        ratios = processor / medians["ours"][0], elapsed / medians["ours"][1]
        print(f"{name:18}{processor:10.2f}{ratios[0]:6.1f}x{elapsed:10.2f}{ratios[1]:6.1f}x")


def examples_of(utterances: Sequence[Utterance], num: int) -> list[Example]:
    """Decode `num` recordings; without any, make noise of 2 to 4 s."""
    encoder, generator = CTCCharTextEncoder(), torch.Generator().manual_seed(0)
    if utterances:
        chosen = utterances[:num]
        decoded = [torch.from_numpy(read_audio(Path(utterance.audio_path), RATE)) for utterance in chosen]
    else:
        chosen = [Utterance(f"{index}", "", "some words of a sentence", 0.0) for index in range(num)]
        lengths = torch.randint(2 * RATE, 4 * RATE, (num,), generator=generator).tolist()
        decoded = [torch.randn(length, generator=generator) * 0.1 for length in lengths]
    return [
        Example(utterance, samples, torch.tensor(encoder.encode(utterance.text or "")))
        for utterance, samples in zip(chosen, decoded, strict=True)
    ]


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, help="real recordings; noise without")
    parser.add_argument("--num", type=int, default=200, help="utterances")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    utterances: list[Utterance] = []
    if options.manifest:
        utterances = CustomAudioDataset(options.manifest).select(CTCCharTextEncoder().normalize).utterances
    examples = examples_of(utterances, options.num)
    seconds = sum(len(example.samples) for example in examples) / RATE / len(examples)
    print(f"{len(examples)} utterances of {seconds:.1f} s, {options.threads} threads, batches of {BATCH_SIZE}")
    compare([examples[start : start + BATCH_SIZE] for start in range(0, len(examples), BATCH_SIZE)], options.repeat)


if __name__ == "__main__":
    main()
