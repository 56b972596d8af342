"""Long recordings to segments of bounded length, cut at pauses, so that decoding costs linear time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hw_asr.recognition.results import Alternative
from hw_asr.types import LogProbs

BLANK = 0
SHORTEST_SECONDS, LONGEST_SECONDS = 10.0, 30.0
QUIET = float(np.log(0.9))
"""A frame whose blank has at least this log-probability is part of a pause."""
LONG_PAUSE_SECONDS = 1.0
"""Longer pauses are not better places to cut."""
SPACE_BONUS_SECONDS = 0.5
"""A pause beside a space of the most probable path counts as so much longer: between words rather than inside one."""


class Piece(NamedTuple):
    """Consecutive frames of a recording."""

    start: int
    """First frame."""
    log_probs: LogProbs


def cut_at_pauses(blocks: Iterable[LogProbs], seconds_per_frame: float, space: int | None) -> Iterator[Piece]:
    """Cut log-probabilities that arrive in blocks (t, V) into pieces of 10 to 30 s; the last one may be shorter.

    Each cut is in the middle of the longest pause there is between the two limits, of equal ones in the last. `space`
    is the class of the space, None where the alphabet has none.
    """
    shortest, longest = (max(1, round(seconds / seconds_per_frame)) for seconds in (SHORTEST_SECONDS, LONGEST_SECONDS))
    held: list[LogProbs] = []
    start = count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count <= longest:
            continue
        frames = np.concatenate(held)
        while len(frames) > longest:
            cut = shortest + _best_cut(frames[shortest:longest], seconds_per_frame, space)
            yield Piece(start, frames[:cut])
            frames, start = frames[cut:], start + cut
        held, count = [frames], len(frames)
    if count:
        yield Piece(start, np.concatenate(held))


def _best_cut(log_probs: LogProbs, seconds_per_frame: float, space: int | None) -> int:
    """Return the frame before which to cut."""
    quiet = log_probs[:, BLANK] >= QUIET
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    if len(begins) == 0:
        return int(log_probs[:, BLANK].argmax())
    scores = np.minimum((ends - begins) * seconds_per_frame, LONG_PAUSE_SECONDS)
    if space is not None:
        spaces = np.concatenate([[False], log_probs.argmax(axis=1) == space, [False]])
        scores = scores + SPACE_BONUS_SECONDS * (spaces[begins] | spaces[ends + 1])
    best = len(scores) - 1 - int(scores[::-1].argmax())
    return int(begins[best] + ends[best]) // 2


class Limits(NamedTuple):
    """How long the segments of a `PauseCutter` are, in seconds."""

    pause: float = 1.0
    """A pause of this length ends every segment that has more than blanks."""
    shortest: float = SHORTEST_SECONDS
    """From here on shorter pauses suffice, the shorter the longer the segment is."""
    longest: float = LONGEST_SECONDS
    """The segment ends even without a pause."""


class PauseCutter:
    """Cuts log-probabilities into segments while they arrive: a cut depends on the frames before it only.

    `space` is the class of the space, None where the alphabet has none.
    """

    def __init__(self, seconds_per_frame: float, space: int | None, limits: Limits = Limits()) -> None:  # noqa: B008
        self._frame, self._space, self._limits = seconds_per_frame, space, limits
        self._length = self._pause = self._last = 0

    def cuts(self, log_probs: LogProbs) -> list[int]:
        """Return where segments end in the next frames (t, V): before these frames, from 1 to t."""
        result = []
        quiet = (log_probs[:, BLANK] >= QUIET).tolist()
        for index, (is_quiet, best) in enumerate(zip(quiet, log_probs.argmax(axis=1).tolist(), strict=True), start=1):
            self._length += 1
            self._pause = self._pause + 1 if is_quiet else 0
            self._last = best or self._last
            if self._ends_here():
                result.append(index)
                self._length = self._pause = self._last = 0
        return result

    def _ends_here(self) -> bool:
        limits, length, pause = self._limits, self._length * self._frame, self._pause * self._frame
        if self._pause < self._length and pause >= limits.pause:
            return True
        if length < limits.shortest:
            return False
        if self._space is not None and self._last == self._space:
            pause += SPACE_BONUS_SECONDS
        return pause * (limits.longest - limits.shortest) >= limits.pause * (limits.longest - length)


def cut_causally(
    blocks: Iterable[LogProbs],
    seconds_per_frame: float,
    space: int | None,
    limits: Limits = Limits(),  # noqa: B008
) -> Iterator[Piece]:
    """Cut log-probabilities that arrive in blocks (t, V) with a `PauseCutter`; there is at least one piece."""
    cutter, held, start = PauseCutter(seconds_per_frame, space, limits), list[LogProbs](), 0
    for block in blocks:
        begin = 0
        for cut in cutter.cuts(block):
            piece = np.concatenate([*held, block[begin:cut]])
            yield Piece(start, piece)
            held, start, begin = [], start + len(piece), cut
        held.append(block[begin:])
    if held and (start == 0 or any(map(len, held))):
        yield Piece(start, np.concatenate(held))


def join_texts(texts: Iterable[str], has_spaces: bool) -> str:
    """Join the texts of consecutive segments: with one space where the alphabet has spaces."""
    if not has_spaces:
        return "".join(texts)
    return " ".join(text for text in map(str.strip, texts) if text)


def join_alternatives(lists: Sequence[Sequence[Alternative]], has_spaces: bool) -> tuple[Alternative, ...]:
    """Return the n-best list of a recording from those of its segments: probabilities multiply, logarithms add up.

    It is as long as the longest of the lists. A segment without any text contributes nothing.
    """
    lists = [alternatives for alternatives in lists if alternatives]
    num_best = max(map(len, lists), default=0)
    best = [(0.0, 0.0, -1, -1)] if lists else []  # score, log_prob, place before, index of the alternative
    history: list[list[tuple[int, int]]] = []
    for alternatives in lists:
        combined = (
            (score + alternative.score, log_prob + alternative.log_prob, place, index)
            for place, (score, log_prob, _, _) in enumerate(best)
            for index, alternative in enumerate(alternatives)
        )
        best = heapq.nlargest(num_best, combined, key=lambda combination: combination[0])
        history.append([(place, index) for _, _, place, index in best])
    result: dict[str, Alternative] = {}
    for last, (score, log_prob, _, _) in enumerate(best):
        place, indices = last, []
        for step in reversed(history):
            place, index = step[place]
            indices.append(index)
        texts = [alternatives[index].text for alternatives, index in zip(lists, reversed(indices), strict=True)]
        text = join_texts(texts, has_spaces)
        result.setdefault(text, Alternative(text, log_prob, score))
    return tuple(result.values())
