"""Recordings and texts with known borders and known faults, for `benchmarks.alignment`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.audio import read_audio

BELOW_LOUDEST_DB = 40
FOREIGN = (
    "der zug nach bremen kommt heute sehr spat an", "ich habe gestern den ganzen tag im garten gearbeitet",
    "nous avons mange du pain et du fromage", "la petite fille joue dans le jardin de sa tante",
    "el tren llega a las ocho de la manana", "mi abuela vive en una casa muy antigua",
)  # fmt: skip


class Part(NamedTuple):
    """An utterance in a recording: its words in the text, and the words that are said, in seconds."""

    kind: str
    text: list[str]
    said: list[str]
    start: float
    end: float


class Speech:
    """The utterances of a manifest, cut to where there is speech."""

    def __init__(self, manifest: Path, sample_rate: int) -> None:
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        self.texts = [row["text"].split() for row in rows]
        self.rate = sample_rate
        self.samples = [trimmed(read_audio(manifest.parent / row["path"], sample_rate), sample_rate) for row in rows]

    def recording(self, seconds: float, kinds: tuple[str, ...], seed: int) -> tuple[NDArray[np.float32], list[Part]]:
        """Return samples of about so many seconds, and the parts they and the text are made of."""
        generator = np.random.default_rng(seed)
        pieces: list[NDArray[np.float32]] = []
        parts: list[Part] = []
        count = 0
        while count < seconds * self.rate:
            kind = kinds[generator.integers(len(kinds))]
            said, other = (int(index) for index in generator.choice(len(self.texts), 2, replace=False))
            text = {"same": self.texts[said], "left out": [], "inserted": self.texts[other]}
            start = count
            if kind != "inserted":
                pause = np.zeros(generator.integers(self.rate // 5, self.rate), np.float32)
                pieces += [self.samples[said], pause]
                count += len(self.samples[said]) + len(pause)
            end = start if kind == "inserted" else start + len(self.samples[said])
            words = [] if kind == "inserted" else self.texts[said]
            parts.append(Part(kind, text.get(kind, self.texts[other]), words, start / self.rate, end / self.rate))
        samples = np.concatenate(pieces)
        return samples + 3e-4 * generator.standard_normal(len(samples), np.float32), parts


def trimmed(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Return an utterance without what is quiet before and after it."""
    step = sample_rate // 100
    levels = np.square(samples[: len(samples) // step * step].reshape(-1, step)).mean(axis=1)
    loud = np.flatnonzero(levels > levels.max() * 10 ** (-BELOW_LOUDEST_DB / 10))
    return samples[loud[0] * step : (loud[-1] + 1) * step]


def text_of(parts: list[Part]) -> str:
    """Return the text that is aligned with a recording."""
    return " ".join(word for part in parts for word in part.text)


def planted(texts: list[str], seed: int) -> tuple[list[str], dict[int, str]]:
    """Swap 5 % of the texts, cut 5 % in half and replace 5 % by foreign ones; return them and the kinds by place."""
    draws, texts, num = random.Random(seed), list(texts), len(texts) // 20
    chosen = draws.sample(range(len(texts)), 3 * num)
    swapped, cut, foreign = chosen[:num], chosen[num : 2 * num], chosen[2 * num :]
    originals = [texts[index] for index in swapped]
    for index, text in zip(swapped, originals[1:] + originals[:1], strict=True):
        texts[index] = text
    for index in cut:
        words = texts[index].split()
        middle = max(1, len(words) // 2)
        texts[index] = " ".join(words[:middle] if draws.random() < 0.5 else words[middle:])
    for index in foreign:
        texts[index] = draws.choice(FOREIGN)
    kinds = {"swapped": swapped, "cut": cut, "foreign": foreign}
    return texts, {index: kind for kind, indices in kinds.items() for index in indices}
