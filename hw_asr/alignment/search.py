"""From log-probabilities and a text to an alignment."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.alignment.result import AlignedWord, Alignment, ExtraSpeech
from hw_asr.alignment.transcript import TextWord, Transcript
from hw_asr.decoders.alignment import align_characters, align_with_gaps
from hw_asr.types import TextEncoder, Word

LogProbs = NDArray[np.floating[Any]]
"""(T, V), natural logarithms; class 0 is the blank."""
Scores = NDArray[np.float64]
BLANK = 0


class Costs(NamedTuple):
    """What it costs, in nats, that text and speech differ. A character in its place costs how much less probable it is
    than the most probable class of its frame.
    """

    missing: float = 10.0
    """Words of the text that are not spoken, any number of them in a row,"""
    missing_character: float = 1.0
    """and each of their characters."""
    extra_character: float = 1.0
    """A character of speech that is not in the text."""
    repeated: float = 0.1
    """A further frame of such a character; less than a frame of speech that is in the text may cost."""


MIN_EXTRA_CHARACTERS = 3
"""Fewer characters between two words are no speech: networks emit some in noise."""


PAUSE_SECONDS = 0.3
"""A longer pause separates words of such speech."""


class _Layout(NamedTuple):
    """The labels of all words in a row, and the place of each word's first label and of the one after its last."""

    labels: list[int]
    begins: list[int]
    ends: list[int]


def align_text(
    log_probs: LogProbs,
    transcript: Transcript,
    encoder: TextEncoder,
    seconds_per_frame: float,
    *,
    forced: bool = False,
    costs: Costs = Costs(),  # noqa: B008
) -> Alignment:
    """Align a text with log_probs (T, V); the duration of the result is that of the frames.

    Words that are not spoken and speech that is not in the text are found. With `forced`, the recording is the text:
    every word has a place.

    Raises AlignmentError for a text that cannot be placed with `forced`.
    """
    layout = _lay_out(transcript, encoder, spaces=forced)
    silent = _silent_classes(encoder)
    frames, numbers = _narrowed(log_probs, [*silent, *layout.labels])
    labels = numbers[len(silent) :]
    if forced:
        path = align_characters(frames, labels)
    else:
        scores = _scores(frames, log_probs, numbers[: len(silent)], costs)
        path = align_with_gaps(scores, labels, _skips(layout, costs), costs.missing)
    spans = _frames_of_labels(path, len(labels))
    words = [
        _aligned_word(word, frames, labels[begin:end], spans[begin:end], seconds_per_frame)
        for word, begin, end in zip(transcript.words, layout.begins, layout.ends, strict=True)
    ]
    extra = () if forced else _extra_speech(log_probs, path, layout, encoder, seconds_per_frame)
    return Alignment(tuple(words), tuple(extra), len(log_probs) * seconds_per_frame)


def _narrowed(log_probs: LogProbs, classes: list[int]) -> tuple[Scores, list[int]]:
    """Return only the columns of the blank and of `classes`, and the place of each class among them.

    A text has few of the characters of a large alphabet; in double precision all columns would be gigabytes an hour.
    """
    columns = np.unique([BLANK, *classes])
    return np.ascontiguousarray(log_probs[:, columns], np.float64), np.searchsorted(columns, classes).tolist()


def _aligned_word(
    word: TextWord, log_probs: LogProbs, labels: list[int], frames: list[tuple[int, int]], seconds_per_frame: float
) -> AlignedWord:
    """Return a word whose labels are in these frames: first one and the one after the last, equal if it is left out."""
    if not labels or frames[0][0] == frames[0][1]:
        return AlignedWord(word.spelling, None, None, 0.0, False if labels else None, word.normalized)
    peaks = [float(log_probs[first:last, label].max()) for label, (first, last) in zip(labels, frames, strict=True)]
    characters = tuple(
        Word(character, first * seconds_per_frame, last * seconds_per_frame, _probability(peak))
        for character, (first, last), peak in zip(word.normalized, frames, peaks, strict=True)
        if character != " "
    )
    start, end, confidence = characters[0].start, characters[-1].end, _probability(sum(peaks) / len(peaks))
    return AlignedWord(word.spelling, start, end, confidence, True, word.normalized, characters)


def _frames_of_labels(path: NDArray[np.int32], num_labels: int) -> list[tuple[int, int]]:
    """Return for each label its first frame and the one after its last; they are equal for labels that are left out."""
    states = 2 * np.arange(num_labels) + 1
    first, last = (np.searchsorted(path, states, side).tolist() for side in ("left", "right"))
    return list(zip(first, last, strict=True))


def _lay_out(transcript: Transcript, encoder: TextEncoder, spaces: bool) -> _Layout:
    labels: list[int] = []
    begins, ends = [], []
    space = encoder.encode(" ") if spaces and " " in encoder.alphabet else []
    for word in transcript.words:
        if word.normalized and labels:
            labels += space
        begins.append(len(labels))
        labels += encoder.encode(word.normalized)
        ends.append(len(labels))
    return _Layout(labels, begins, ends)


def _skips(layout: _Layout, costs: Costs) -> Scores:
    """Return the argument `skips` of `align_with_gaps`."""
    skips = np.full(len(layout.labels) + 1, -1.0)
    words = [(begin, end) for begin, end in zip(layout.begins, layout.ends, strict=True) if begin < end]
    missing = [costs.missing_character * (end - begin) for begin, end in words]
    skips[[begin for begin, _ in words]] = [0.0, *accumulate(missing[:-1])]
    skips[-1] = sum(missing)
    return skips


def _scores(frames: Scores, log_probs: LogProbs, silent_columns: list[int], costs: Costs) -> Scores:
    """Return the scores (T, N + 1) of the columns of `frames` and of a gap: relative to the most probable class."""
    best = log_probs.argmax(axis=1)
    scores = np.empty((frames.shape[0], frames.shape[1] + 1))
    np.subtract(frames, log_probs.max(axis=1, keepdims=True), out=scores[:, :-1])
    silent = scores[:, silent_columns].max(axis=1)
    is_new = np.diff(best, prepend=-1) != 0
    scores[:, -1] = np.maximum(silent, np.where(is_new, -costs.extra_character, -costs.repeated))
    return scores


def _silent_classes(encoder: TextEncoder) -> list[int]:
    """Return the classes that a pause may consist of: the blank and, where there is one, the space."""
    return [BLANK, *([encoder.encode(" ")[0]] if " " in encoder.alphabet else [])]


def _extra_speech(
    log_probs: LogProbs, path: NDArray[np.int32], layout: _Layout, encoder: TextEncoder, seconds_per_frame: float
) -> list[ExtraSpeech]:
    """Return the stretches of frames in gaps in which the most probable classes are at least some characters."""
    best = log_probs.argmax(axis=1)
    silent = np.isin(best, _silent_classes(encoder))
    is_new = (np.diff(best, prepend=-1) != 0) & ~silent
    is_gap = np.zeros(len(layout.labels) + 1, bool)
    is_gap[[*(begin for begin, end in zip(layout.begins, layout.ends, strict=True) if begin < end), -1]] = True
    gaps = np.where((path % 2 == 0) & is_gap[path // 2], path, -1)
    edges = np.flatnonzero(np.diff(gaps, prepend=-1, append=-1))
    stretches = []
    for begin, end in pairwise(edges.tolist()):
        new = np.flatnonzero(is_new[begin:end])
        if gaps[begin] < 0 or len(new) < MIN_EXTRA_CHARACTERS:
            continue
        first, last = begin + int(new[0]), end - int((~silent[begin:end])[::-1].argmax())
        heard = _heard(best[first:last], encoder, round(PAUSE_SECONDS / seconds_per_frame))
        after_word = int(np.searchsorted(layout.ends, gaps[begin] // 2, "right"))
        stretches.append(ExtraSpeech(first * seconds_per_frame, last * seconds_per_frame, heard, after_word))
    return stretches


def _heard(best: NDArray[np.int64], encoder: TextEncoder, pause: int) -> str:
    """Return the text of the most probable classes of frames; a pause of so many frames separates words."""
    emitted = np.flatnonzero((np.diff(best, prepend=-1) != 0) & (best != BLANK)).tolist()
    is_pause = [later - earlier > pause for earlier, later in pairwise([0, *emitted])]
    separator = " " if " " in encoder.alphabet else ""
    characters = [
        (separator if after_pause else "") + encoder.decode([int(best[frame])])
        for frame, after_pause in zip(emitted, is_pause, strict=True)
    ]
    text = "".join(characters)
    return " ".join(text.split()) if separator else text


def _probability(log_prob: float) -> float:
    return min(1.0, math.exp(log_prob))
