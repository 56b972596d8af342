"""The data of a page, as it is written into the page as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from hw_asr.metrics import ErrorCounts
from hw_asr.report.alignment import Edit

Unit = Literal["words", "characters"]
UNITS: tuple[Unit, Unit] = ("words", "characters")


class Hypothesis(TypedDict, total=False):
    """What a decoder made of an utterance; only `text` and `alternatives` where there is no reference."""

    text: str
    alternatives: Sequence[object]
    edits: list[Edit]
    words: ErrorCounts
    characters: ErrorCounts
    errors: int
    """In the unit of the page."""
    wer: float
    cer: float


class Row(TypedDict, total=False):
    """An utterance. `change` is set by comparisons, `loss` by audits, `href` and `clip` by pages with audio."""

    path: str
    speaker: object
    duration: float | None
    offset: float | None
    """Where the utterance starts in its recording, in seconds; None for a whole recording."""
    error: str | None
    warning: str | None
    segments: list[list[object]]
    reference: str | None
    hypotheses: list[Hypothesis | None]
    words: list[list[object]]
    change: int | None
    loss: float | None
    """Nats per character; None for a text that is too long for its recording."""
    href: str
    clip: str


class Rate(TypedDict):
    """An error rate of one decoder."""

    corpus: float
    mean: float
    interval: list[float] | None
    counts: list[int]
    """Substitutions, deletions, insertions and reference tokens."""


class Headline(TypedDict):
    """The error rates of one decoder; `perfect` is the share of utterances without word errors."""

    decoder: str
    wer: Rate
    cer: Rate
    perfect: float


class Group(TypedDict):
    """The word error rate of a part of the utterances."""

    label: str
    utterances: int
    words: int
    wer: float
    interval: list[float] | None


class Confusions(TypedDict, total=False):
    """Counts of (reference token, hypothesis token) by kind of edit; `words` only where spaces separate words."""

    words: dict[str, list[tuple[str, str, int]]]
    characters: dict[str, list[tuple[str, str, int]]]


class Bin(TypedDict):
    """The words of a range of confidence: means, and how many."""

    confidence: float
    right: float
    count: int


class Calibration(TypedDict):
    """The confidence of words against how often they are right."""

    bins: list[Bin]
    error: float
    words: int
    right: float


class Comparison(TypedDict):
    """Two systems on the same recordings: the `statistics.Difference` of each unit, and counts of recordings."""

    differences: dict[str, dict[str, object]]
    better: int
    worse: int
    same: int
    left_out: dict[str, int]


class Evaluation(TypedDict):
    """The data of a page."""

    decoders: list[str]
    unit: str
    num_scored: int
    headline: list[Headline]
    durations: list[list[Group]]
    speakers: list[list[Group]]
    confusions: list[Confusions]
    calibration: Calibration | None
    utterances: list[Row]


class PageData(Evaluation, total=False):
    """An evaluation, and what only some pages have."""

    comparison: Comparison
    totals: list[tuple[str, object]]
    training: Mapping[str, object]
    audio_note: str
