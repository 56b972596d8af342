"""What recognition returns: frozen dataclasses, with `to_dict()` for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hw_asr.types import Hypothesis, Word


@dataclass(frozen=True)
class Alternative:
    """One text of a decoder's n-best list."""

    text: str
    log_prob: float
    """Natural logarithm of the exact CTC probability of `text`, without a language model."""
    score: float
    """What the decoder ranks by: `log_prob`, plus the language model and hotword terms where there are any."""

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        return {"text": self.text, "log_prob": self.log_prob, "score": self.score}


@dataclass(frozen=True)
class Segment:
    """A stretch of speech between pauses, with its text."""

    start: float
    """Start of its first word, in seconds from the beginning of the recording."""
    end: float
    """End of its last word."""
    text: str
    log_prob: float
    """Natural logarithm of the CTC probability of `text`."""
    words: tuple[Word, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain data; the words are in the result's own list."""
        return {"start": self.start, "end": self.end, "text": self.text, "log_prob": self.log_prob}


@dataclass(frozen=True)
class Result:
    """The transcript of one recording.

    `alternatives`, `words` and `segments` are those of the best decoder; `by_decoder` has the n-best list of each.

    >>> from hw_asr.recognition.results import Alternative, Result
    >>> result = Result("yes", duration=1.5, alternatives=(Alternative("yes", -0.5, -0.5),))
    >>> result.text, result.alternatives[0].log_prob, result.warning
    ('yes', -0.5, None)
    >>> sorted(result.to_dict())
    ['alternatives', 'duration', 'segments', 'text', 'words']
    """

    text: str
    duration: float
    """Seconds of audio that were decoded; 0 for a recording that could not be read."""
    alternatives: tuple[Alternative, ...] = ()
    """Best first; empty when the decoder found no text."""
    words: tuple[Word, ...] = ()
    segments: tuple[Segment, ...] = ()
    """One for a short recording; a long one is cut at pauses. Silence has none."""
    by_decoder: Mapping[str, tuple[Alternative, ...]] = field(default_factory=dict)
    warning: str | None = None
    """What is wrong with the recording, for example that it is cut off; None for a sound one."""
    error: str | None = None
    """Why there is no transcript. Set only on results of a list; a single recording raises `hw_asr.Error`."""

    def to_dict(self) -> dict[str, object]:
        """Return plain data, without `warning` and `error` when they are None."""
        data: dict[str, object] = {
            "text": self.text,
            "duration": self.duration,
            "alternatives": [alternative.to_dict() for alternative in self.alternatives],
            "words": [word.to_dict() for word in self.words],
            "segments": [segment.to_dict() for segment in self.segments],
        }
        notes = {"warning": self.warning, "error": self.error}
        return data | {name: text for name, text in notes.items() if text is not None}


def alternatives_of(hypotheses: Sequence[Hypothesis]) -> tuple[Alternative, ...]:
    """Return a decoder's hypotheses as alternatives, in the same order."""
    return tuple(Alternative(hypothesis.text, hypothesis.log_prob, hypothesis.score) for hypothesis in hypotheses)
