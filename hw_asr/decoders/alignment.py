"""Where the words of a text are in time: the best alignment of the text to the log-probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import Matrix, as_array
from hw_asr.errors import UserError
from hw_asr.text.characters import characters_of
from hw_asr.types import TensorOrArray, TextEncoder, Word

if TYPE_CHECKING:
    from hw_asr.decoders.viterbi import Graph

BLOCK_FRAMES = 2048
"""An alignment keeps the scores of all states once in so many frames."""
BEAM = 1000.0
"""Width of the search, in nats, that finds a bound for the exact one."""


class AlignmentError(UserError):
    """A text that has no path through the frames."""


class Span(NamedTuple):
    """A word of a text and the frames of its characters."""

    word: str
    begin: int
    end: int
    """First frame of the first character, and the one after the last frame of the last."""
    confidence: float
    """Geometric mean over the characters of the largest probability each has in its frames."""


def words(
    log_probs: TensorOrArray, length: int, text: str, text_encoder: TextEncoder, seconds_per_frame: float
) -> list[Word]:
    """Place the words of `text` in the first `length` frames of log_probs (T, V); times in seconds.

    Raises AlignmentError when no path through the frames gives the text.
    """
    return [
        Word(span.word, span.begin * seconds_per_frame, span.end * seconds_per_frame, span.confidence)
        for span in align(log_probs[:length], text, text_encoder)
    ]


def align(log_probs: TensorOrArray, text: str, text_encoder: TextEncoder) -> list[Span]:
    """Find the frames of each word of `text` on the best path through log_probs (T, V), natural logarithms.

    Without a space in the alphabet every character, with the marks on it, is a word.

    Raises AlignmentError when no path gives the text.
    """
    if not text.strip():
        return []
    frames = np.ascontiguousarray(as_array(log_probs), np.float64)
    path = align_characters(frames, text_encoder.encode(text))
    begins = [int(np.searchsorted(path, 2 * place + 1)) for place in range(len(text))]
    ends = [int(np.searchsorted(path, 2 * place + 1, side="right")) for place in range(len(text))]
    separator = " " if " " in text_encoder.alphabet else ""
    spans, place = [], 0
    for word in text.split(separator) if separator else characters_of(text):
        last = place + len(word)
        if word:
            labels = text_encoder.encode(word)
            peaks = [frames[begins[place + k] : ends[place + k], label].max() for k, label in enumerate(labels)]
            confidence = min(1.0, math.exp(sum(peaks) / len(peaks)))
            spans.append(Span(word, begins[place], ends[last - 1], confidence))
        place = last + len(separator)
    return spans


def align_characters(log_probs: Matrix, labels: list[int]) -> NDArray[np.int32]:
    """Return the state of each frame of log_probs (T, V) on the best path: 2k + 1 for label k, even ones for blanks.

    Raises AlignmentError when there is no path.
    """
    from hw_asr.decoders.viterbi import Graph

    needed = len(labels) + sum(now == before for now, before in zip(labels[1:], labels, strict=False))
    if needed <= len(log_probs):
        path = _best_path(log_probs, Graph(np.array(labels, np.int32), np.full(len(labels) + 1, -1.0), 0.0))
        if path is not None:
            return path
    raise AlignmentError(
        f"{len(labels)} characters cannot be aligned to {len(log_probs)} frames: "
        + ("at least " + str(needed) + " are needed" if needed > len(log_probs) else "they have probability 0")
    )


def align_with_gaps(scores: Matrix, labels: list[int], skips: NDArray[np.float64], opening: float) -> NDArray[np.int32]:
    """Return the state of each frame on the best path through the words of a text, some of which may be left out.

    Args:
        scores: (T, V + 1), at most 0: what each class adds to a path. Class V is that of gaps between words.
        labels: L classes, without those of spaces between words.
        skips: (L + 1,) before each label and at the end: the cost of leaving out all words before, where a word begins
            and at the end; elsewhere -1.
        opening: the cost of leaving out any number of consecutive words, besides theirs.

    Returns:
        2k + 1 for label k; even ones for blanks inside words and gaps. The labels of words that are left out are not
        in the path.

    The search is exact. A path found within a beam gives a bound on the best score; since no score is above 0, states
    below the bound cannot be on the best path.
    """
    from hw_asr.decoders.viterbi import Block, Graph, Pruning, advance

    graph = Graph(np.array(labels, np.int32), skips, float(opening))
    cells = _Saved(2, np.zeros(1)).scores(2 * len(labels) + 3)
    whole = Block(0, len(scores), 0, 2 * len(labels))
    row = advance(scores, graph, cells, np.empty((0, 0), np.int8), whole, Pruning(-math.inf, BEAM))
    _, bound = _end(cells[row], graph)
    path = _best_path(scores, graph, bound - 1e-9 * (1.0 - bound))
    assert path is not None, "no gap is impossible"
    return path


def _best_path(log_probs: Matrix, graph: Graph, floor: float = -math.inf) -> NDArray[np.int32] | None:
    """Return the states of the best path; None when none has a probability above 0.

    Which way each state of each frame came from is a table that grows with the square of a recording: gigabytes for
    an hour. So only the scores before every block are kept. Going back, a block whose last state is known is done
    again, and this time only the states that can lead there are. Without gaps these are few. With gaps they are those
    that pruning has left, and a block has about as many frames as there are blocks.
    """
    from hw_asr.decoders.viterbi import Block, Pruning, advance, trace

    num_frames, high, has_gaps = len(log_probs), 2 * len(graph.labels), bool(graph.skips[0] >= 0)
    size = min(BLOCK_FRAMES, math.isqrt(8 * num_frames) + 1) if has_gaps else BLOCK_FRAMES
    pruning, path = Pruning(floor, math.inf), np.zeros(num_frames, np.int32)
    starts = range(0, max(1, num_frames), size)
    saved = [_Saved(2, np.zeros(1))]
    for start in starts[1:]:
        scores = saved[-1].scores(high + 3)
        block = Block(start - size, start, 0, high)
        row = advance(log_probs, graph, scores, np.empty((0, 0), np.int8), block, pruning)
        saved.append(_Saved.of(scores[row]))
    for start, before in zip(reversed(starts), reversed(saved), strict=True):
        end = min(start + size, num_frames)
        low = max(0, before.first - 2 if has_gaps else high - 2 * (end - start) - 1)
        block = Block(start, end, low, high)
        scores = before.scores(2 * len(graph.labels) + 3)
        steps = np.empty((end - start, high - low + 1), np.int8)
        row = advance(log_probs, graph, scores, steps, block, pruning)
        if end == num_frames:
            high, best = _end(scores[row], graph)
            if best == -np.inf:
                return None
        high = trace(steps, graph.skips, path, block, high)
    return path


def _end(row: NDArray[np.float64], graph: Graph) -> tuple[int, float]:
    """Return the state that the best path ends in, and its score: the last label, the blank after it, or a gap before
    words that are left out.
    """
    num_labels, skips = len(graph.labels), graph.skips
    gaps = np.flatnonzero(skips[:-1] >= 0)[::-1]
    states = np.concatenate([[2 * num_labels], [2 * num_labels - 1] if num_labels else [], 2 * gaps]).astype(np.int64)
    costs = np.concatenate([[0.0], [0.0] if num_labels else [], graph.opening + skips[-1] - skips[gaps]])
    values = row[states + 2] - costs
    best = int(values.argmax())
    return int(states[best]), float(values[best])


class _Saved(NamedTuple):
    """The cells of a row of scores that are not -inf, and the first of them."""

    first: int
    values: NDArray[np.float64]

    @classmethod
    def of(cls, row: NDArray[np.float64]) -> _Saved:
        cells = np.flatnonzero(row > -np.inf)
        first, last = (int(cells[0]), int(cells[-1])) if len(cells) else (0, -1)
        return cls(first, row[first : last + 1].copy())

    def scores(self, num_cells: int) -> Matrix:
        """Return the argument `scores` of `advance`."""
        scores = np.full((2, num_cells), -np.inf)
        scores[0, self.first : self.first + len(self.values)] = self.values
        return scores
