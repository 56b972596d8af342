"""Log-probabilities for the decoding benchmark: of a trained model from an .npz file, or made from text with faults."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ALPHABET = "^abcdefghijklmnopqrstuvwxyz' "
FRAME_SECONDS = 0.0125
SPIKE = 7.0
"""Logit of what a frame says."""
CONFUSABLE = ("aeiou", "bdpt", "ckgq", "fvs", "mn", "lr", "szxc", "wuv", "jgy", "th", "hf", "ei", " e", " s")


class Emissions(NamedTuple):
    """What the decoders get: per utterance log-probabilities (T, V) and the reference text."""

    log_probs: list[NDArray[np.float32]]
    references: list[str]
    alphabet: str
    frame_seconds: float

    @property
    def seconds(self) -> float:
        """Seconds of audio that this stands for."""
        return self.frame_seconds * sum(len(row) for row in self.log_probs)

    def batches(self, size: int) -> list[Batch]:
        """Return the utterances in batches, as a network returns them."""
        groups = [self.log_probs[begin : begin + size] for begin in range(0, len(self.log_probs), size)]
        return [Batch.of(rows) for rows in groups]


class Batch(NamedTuple):
    """Log-probabilities of several utterances."""

    log_probs: NDArray[np.float32]
    """(B, T, V), padded with zeros."""
    lengths: NDArray[np.int64]
    """(B,) in frames."""

    @classmethod
    def of(cls, rows: list[NDArray[np.float32]]) -> Batch:
        """Pad utterances (T, V) of different lengths."""
        lengths = np.array([len(row) for row in rows])
        log_probs = np.zeros((len(rows), int(lengths.max(initial=0)), rows[0].shape[1]), np.float32)
        for values, row in zip(log_probs, rows, strict=True):
            values[: len(row)] = row
        return cls(log_probs, lengths)

    @property
    def rows(self) -> list[NDArray[np.float32]]:
        """The utterances without the padding, as views."""
        return [values[:length] for values, length in zip(self.log_probs, self.lengths.tolist(), strict=True)]


def read(path: Path, num: int, frame_seconds: float) -> Emissions:
    """Read `num` utterances of an .npz.

    It has `log_probs` (frames of all utterances, V), `lengths`, `references` and `alphabet`, as
    scripts/language_model/tune.py keeps them.
    """
    with np.load(path, allow_pickle=False) as arrays:
        bounds = np.cumsum(arrays["lengths"])[:-1]
        return Emissions(
            np.split(arrays["log_probs"].astype(np.float32), bounds)[:num],
            [str(text) for text in arrays["references"]][:num],
            "".join(str(symbol) for symbol in arrays["alphabet"]),
            frame_seconds,
        )


def synthesise(texts: list[str], difficulty: float, seed: int = 0) -> Emissions:
    """Make what a network might say to these texts: spikes between blanks, confused, weak, doubled and noisy.

    `difficulty` is the share of faulty characters, and the noise of every frame grows with it.
    """
    generator = np.random.default_rng(seed)
    return Emissions([_emit(text, difficulty, generator) for text in texts], texts, ALPHABET, FRAME_SECONDS)


def _emit(text: str, difficulty: float, generator: np.random.Generator) -> NDArray[np.float32]:
    frames: list[NDArray[np.float64]] = []
    for character in text:
        frames += [_frame(0, difficulty, generator) for _ in range(1 + generator.poisson(3))]
        frames += _spike(character, difficulty, generator)
    frames += [_frame(0, difficulty, generator) for _ in range(1 + generator.poisson(5))]
    logits = np.stack(frames)
    normaliser = np.logaddexp.reduce(logits, axis=1, keepdims=True)
    log_probs: NDArray[np.float32] = (logits - normaliser).astype(np.float32)
    return log_probs


def _spike(character: str, difficulty: float, generator: np.random.Generator) -> list[NDArray[np.float64]]:
    target = ALPHABET.index(character)
    num_frames = 1 + int(generator.random() < 0.5)
    frames = [_frame(target, difficulty, generator) for _ in range(num_frames)]
    fault = generator.random()
    if fault < 0.6 * difficulty:  # another letter is as likely
        groups = [group for group in CONFUSABLE if character in group]
        choices = [other for group in groups for other in group if other != character] or list(ALPHABET[1:])
        rival = ALPHABET.index(choices[generator.integers(len(choices))])
        advantage = generator.normal(1, 3)
        for frame in frames:
            frame[rival] = frame[target] + advantage
    elif fault < 0.8 * difficulty:  # it may not be there at all
        for frame in frames:
            frame[0] = frame[target] + generator.normal(1, 3)
    elif fault < difficulty:  # something may have been said beside it
        extra = int(generator.integers(1, len(ALPHABET)))
        frames += [_frame(0, difficulty, generator), _frame(extra, 7.0, generator)]
        frames[-1][0] = SPIKE + generator.normal(0, 2)
    return frames


def _frame(symbol: int, difficulty: float, generator: np.random.Generator) -> NDArray[np.float64]:
    logits = generator.normal(20 * difficulty - 4, 1.5, len(ALPHABET))
    logits[0] += 2.0
    logits[symbol] = SPIKE + generator.normal(0, 0.7)
    return logits
