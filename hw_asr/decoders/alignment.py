"""Where the words of a text are in time: the best alignment of the text to the log-probabilities."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_asr.decoders.base import Matrix
from hw_asr.errors import UserError
from hw_asr.types import TextEncoder, Word

BLOCK_FRAMES = 2048
"""An alignment keeps the scores of all states once in so many frames."""


class AlignmentError(UserError):
    """A text that cannot be what these frames say."""


class Span(NamedTuple):
    """A word of a text and the frames of its characters."""

    word: str
    begin: int
    end: int
    """First frame of the first character, and the one after the last frame of the last."""
    confidence: float
    """Geometric mean over the characters of the largest probability each has in its frames."""


def words(
    log_probs: Tensor | Matrix, length: int, text: str, text_encoder: TextEncoder, seconds_per_frame: float
) -> list[Word]:
    """Place the words of `text` in the first `length` frames of log_probs (T, V); times in seconds.

    Raises AlignmentError when no path through the frames gives the text.
    """
    return [
        Word(span.word, span.begin * seconds_per_frame, span.end * seconds_per_frame, span.confidence)
        for span in align(log_probs[:length], text, text_encoder)
    ]


def align(log_probs: Tensor | Matrix, text: str, text_encoder: TextEncoder) -> list[Span]:
    """Find the frames of each word of `text` on the best path through log_probs (T, V), natural logarithms.

    Raises AlignmentError when no path gives the text.
    """
    if not text.strip():
        return []
    frames = _as_array(log_probs)
    path = align_characters(frames, text_encoder.encode(text))
    begins = [int(np.searchsorted(path, 2 * place + 1)) for place in range(len(text))]
    ends = [int(np.searchsorted(path, 2 * place + 1, side="right")) for place in range(len(text))]
    spans, place = [], 0
    for word in text.split(" "):
        last = place + len(word)
        if word:
            labels = text_encoder.encode(word)
            peaks = [frames[begins[place + k] : ends[place + k], label].max() for k, label in enumerate(labels)]
            confidence = min(1.0, math.exp(sum(peaks) / len(peaks)))
            spans.append(Span(word, begins[place], ends[last - 1], confidence))
        place = last + 1
    return spans


def align_characters(log_probs: Matrix, labels: list[int]) -> NDArray[np.int32]:
    """Return the state of each frame of log_probs (T, V) on the best path: 2k + 1 for label k, even ones for blanks.

    Raises AlignmentError when there is no path.
    """
    needed = len(labels) + sum(now == before for now, before in zip(labels[1:], labels, strict=False))
    if needed <= len(log_probs):
        path = _best_path(log_probs, np.array(labels, np.int32))
        if path is not None:
            return path
    raise AlignmentError(
        f"{len(labels)} characters cannot be aligned to {len(log_probs)} frames: "
        + ("at least " + str(needed) + " are needed" if needed > len(log_probs) else "they have probability 0")
    )


def _best_path(log_probs: Matrix, labels: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """Return the states of the best path; None when none has a probability above 0.

    Which way each state of each frame came from is a table that grows with the square of a recording: gigabytes for
    an hour. So only the scores before every block are kept. Going back, a block whose last state is known is done
    again, and this time only the few states that lead there are.
    """
    from hw_asr.decoders.viterbi import Block, advance, trace

    num_frames, high = len(log_probs), 2 * len(labels)
    path = np.zeros(num_frames, np.int32)
    starts = range(0, num_frames, BLOCK_FRAMES)
    rows = np.full((len(starts), high + 3), -np.inf)
    rows[:1, 2] = 0.0
    for index, start in enumerate(starts[1:]):
        scores = _scores(rows[index])
        block = Block(start - BLOCK_FRAMES, start, 0, high)
        row = advance(log_probs, labels, scores, np.empty((0, 0), np.int8), block)
        rows[index + 1] = scores[row]
    for index, start in reversed(list(enumerate(starts))):
        end = min(start + BLOCK_FRAMES, num_frames)
        low = max(0, high - 2 * (end - start) - 1)
        scores, steps = _scores(rows[index]), np.empty((end - start, high - low + 1), np.int8)
        row = advance(log_probs, labels, scores, steps, Block(start, end, low, high))
        if end == num_frames:  # a path ends in the last label or in the blank after it
            if high > 0 and scores[row, high + 1] > scores[row, high + 2]:
                high -= 1
            if scores[row, high + 2] == -np.inf:
                return None
        high = trace(steps, path, start, low, high)
    return path


def _scores(row: NDArray[np.float64]) -> Matrix:
    return np.stack([row, np.full_like(row, -np.inf)])


def _as_array(log_probs: Tensor | Matrix) -> Matrix:
    if isinstance(log_probs, Tensor):
        log_probs = log_probs.detach().to("cpu").to(torch.float64).numpy()
    return np.ascontiguousarray(log_probs, np.float64)
