"""An aligned long recording cut into utterances for training, at pauses; what is unsure is left out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from hw_asr.alignment.result import Alignment, ExtraSpeech
from hw_asr.types import Word

MIN_PAUSE_SECONDS = 0.1
"""Between words that are less far apart there may be no pause. Networks mark ends late, so real pauses are longer."""
PADDING_SECONDS = 0.25
"""Of the pauses around a segment, up to so much is part of it, and at most half of a pause."""
LEFT_OUT_COST = 1000.0
"""Of a second of words that are in no segment, against that of a cut, which is at most 1 / MIN_PAUSE_SECONDS."""


class Limits(NamedTuple):
    """What a segment has to fulfil."""

    min_seconds: float = 1.0
    max_seconds: float = 15.0
    min_confidence: float = 0.3
    """Geometric mean of its words."""


class TrainingSegment(NamedTuple):
    """An utterance of a manifest."""

    offset: float
    """Seconds."""
    duration: float
    text: str
    confidence: float


class LeftOut(NamedTuple):
    """A part of the recording or of the text that is in no segment."""

    start: float
    """Seconds."""
    end: float
    text: str
    reason: str


class _Border(NamedTuple):
    """The pauses around a place between two words."""

    before: float
    """Seconds of silence after the word before."""
    after: float
    """Seconds of silence before the next word."""
    is_broken: bool
    """Whether speech or text that do not fit each other are between the two words."""


def cut_into_segments(
    alignment: Alignment,
    limits: Limits = Limits(),  # noqa: B008
    separator: str = " ",
) -> tuple[list[TrainingSegment], list[LeftOut]]:
    """Cut an alignment at pauses into segments within the limits; also return what is left out, by time.

    A segment is a run of consecutive words, all of them spoken and with nothing else said between them. Of all ways to
    cut, one that leaves out the least is taken, and of these one with few cuts in long pauses. `separator` is between
    the words of a text.
    """
    words, borders = alignment.spoken, _borders(alignment)
    segments: list[TrainingSegment] = []
    left_out = _not_alignable(alignment, separator)
    position = 0
    for first, last in [*_chosen(words, borders, alignment.duration, limits), (len(words), len(words))]:
        left_out += _uncovered(words, borders, (position, first), limits, separator)
        position = last
        if first == last:
            continue
        start, end = _limits_of(words, borders, first, last, alignment.duration)
        text = separator.join(word.word for word in words[first:last])
        confidence = _confidence(words[first:last])
        if confidence < limits.min_confidence:
            reason = f"confidence {confidence:.2f} is below {limits.min_confidence:g}"
            left_out.append(LeftOut(start, end, text, reason))
        else:
            segments.append(TrainingSegment(round(start, 3), round(end - start, 3), text, round(confidence, 4)))
    return segments, sorted(left_out)


def _borders(alignment: Alignment) -> list[_Border]:
    """Return the borders before each spoken word and after the last one."""
    places = [place for place, word in enumerate(alignment.words) if word.spoken]
    words, extra = alignment.spoken, alignment.extra_speech
    borders = []
    for index in range(len(words) + 1):
        begin = words[index - 1].end if index else -math.inf
        end = words[index].start if index < len(words) else math.inf
        between = [stretch for stretch in extra if begin <= (stretch.start + stretch.end) / 2 <= end]
        skipped = 0 < index < len(words) and places[index] - places[index - 1] > 1
        before = (between[0].start if between else end) - begin
        after = end - (between[-1].end if between else begin)
        borders.append(_Border(before, after, bool(between) or skipped))
    return borders


def _chosen(
    words: Sequence[Word], borders: Sequence[_Border], duration: float, limits: Limits
) -> list[tuple[int, int]]:
    """Return the first word of each segment and the one after its last, chosen by dynamic programming.

    The best first word is the cheapest of a window that moves with the last word. A queue holds the words of the window
    after which no word is as cheap, so time grows with the number of words, whatever the limits.
    """
    places = [_limits_of(words, borders, index, index + 1, duration) for index in range(len(words))]
    costs, origins = [0.0], [0]
    window, unseen = deque[int](), 0
    for last, (word, (_, end)) in enumerate(zip(words, places, strict=True), start=1):
        costs.append(costs[-1] + LEFT_OUT_COST * (word.end - word.start + 0.1))
        origins.append(last)
        if borders[last - 1].is_broken:
            window.clear()
            unseen = last - 1
        while unseen < last and end - places[unseen][0] >= limits.min_seconds:
            if borders[unseen].after >= MIN_PAUSE_SECONDS:
                while window and costs[window[-1]] >= costs[unseen]:
                    window.pop()
                window.append(unseen)
            unseen += 1
        while window and end - places[window[0]][0] > limits.max_seconds:
            window.popleft()
        if window and borders[last].before >= MIN_PAUSE_SECONDS:
            cost = costs[window[0]] + (0.0 if borders[last].is_broken else 1 / min(1.0, borders[last].before))
            if cost < costs[last]:
                costs[last], origins[last] = cost, window[0]
    segments, last = [], len(words)
    while last > 0:
        if origins[last] < last:
            segments.append((origins[last], last))
            last = origins[last]
        else:
            last -= 1
    return segments[::-1]


def _limits_of(
    words: Sequence[Word], borders: Sequence[_Border], first: int, last: int, duration: float
) -> tuple[float, float]:
    """Return start and end of a segment, in seconds, with padding."""
    start = words[first].start - min(PADDING_SECONDS, borders[first].after / 2)
    end = words[last - 1].end + min(PADDING_SECONDS, borders[last].before / 2)
    return max(0.0, start), min(duration, end)


def _uncovered(
    words: Sequence[Word], borders: Sequence[_Border], span: tuple[int, int], limits: Limits, separator: str
) -> Iterator[LeftOut]:
    """Yield what is left out of the words from the first to before the last of a span, cut where it is broken."""
    begin = span[0]
    for end in range(span[0] + 1, span[1] + 1):
        if end < span[1] and not borders[end].is_broken:
            continue
        start, stop = words[begin].start, words[end - 1].end
        reason = f"shorter than {limits.min_seconds:g} s"
        if stop - start >= limits.min_seconds:
            reason = f"no pauses for a segment of {limits.min_seconds:g} to {limits.max_seconds:g} s"
        yield LeftOut(start, stop, separator.join(word.word for word in words[begin:end]), reason)
        begin = end


def _not_alignable(alignment: Alignment, separator: str) -> list[LeftOut]:
    """Return the words that are not spoken or not in the alphabet, and the speech that is not in the text."""
    result = []
    position = 0.0
    for spoken, group in groupby(alignment.words, key=lambda word: word.spoken):
        words = list(group)
        if spoken:
            position = words[-1].end or position
            continue
        reason = "not spoken" if spoken is False else "no character of it is in the alphabet"
        result.append(LeftOut(position, position, separator.join(word.word for word in words), reason))
    extra: Sequence[ExtraSpeech] = alignment.extra_speech
    return result + [LeftOut(part.start, part.end, part.heard, "speech that is not in the text") for part in extra]


def _confidence(words: Sequence[Word]) -> float:
    return math.exp(sum(math.log(max(word.confidence, 1e-10)) for word in words) / len(words))
