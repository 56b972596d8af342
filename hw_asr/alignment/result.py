"""What an alignment returns: frozen dataclasses, with `to_dict()` for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from hw_asr.types import Word


@dataclass(frozen=True)
class AlignedWord:
    """A word of the text and where it is in the recording."""

    word: str
    """As it is spelled in the text."""
    start: float | None
    """Seconds from the beginning of the recording; None unless `spoken` is True."""
    end: float | None
    confidence: float
    """In [0, 1]; 0 unless `spoken` is True."""
    spoken: bool | None = True
    """False: the word is not in the recording. None: it has no character of the alphabet, so it cannot be found."""
    normalized: str = ""
    """In the alphabet of the model."""
    characters: tuple[Word, ...] = ()
    """Those of `normalized`, spaces left out, with their times and confidences; empty unless `spoken` is True."""

    def to_dict(self, characters: bool = False) -> dict[str, object]:
        """Return plain data, with `characters` if they are wanted and there are any."""
        data: dict[str, object] = {
            "word": self.word,
            "start": _rounded(self.start),
            "end": _rounded(self.end),
            "confidence": round(self.confidence, 4),
            "spoken": self.spoken,
        }
        return data | {"characters": [_plain(part) for part in self.characters]} if characters else data


@dataclass(frozen=True)
class ExtraSpeech:
    """A stretch of speech that is not in the text."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    heard: str
    """What the model hears there: the most probable character of every frame."""
    after_word: int
    """Number of words of the text before it."""

    def to_dict(self, offset: float = 0.0) -> dict[str, object]:
        """Return plain data; `offset` seconds are added to the times."""
        return {"start": round(offset + self.start, 3), "end": round(offset + self.end, 3), "heard": self.heard,
                "after_word": self.after_word}  # fmt: skip


@dataclass(frozen=True)
class Alignment:
    """The words of a text in a recording.

    >>> from hw_asr.alignment.result import AlignedWord, Alignment
    >>> alignment = Alignment((AlignedWord("Yes,", 0.2, 0.5, 0.9),), (), duration=1.0)
    >>> alignment.words[0].word, alignment.words[0].start
    ('Yes,', 0.2)
    >>> sorted(alignment.to_dict())
    ['duration', 'extra_speech', 'words']
    """

    words: tuple[AlignedWord, ...]
    extra_speech: tuple[ExtraSpeech, ...]
    """Stretches of speech that are not in the text, in their order."""
    duration: float
    """Seconds of audio."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the recording or the text."""

    @property
    def spoken(self) -> tuple[Word, ...]:
        """The words that are in the recording, with their times."""
        return tuple(
            Word(word.word, word.start, word.end, word.confidence)
            for word in self.words
            if word.start is not None and word.end is not None
        )

    def to_dict(self, characters: bool = False) -> dict[str, object]:
        """Return plain data, without `warnings` if there are none."""
        data: dict[str, object] = {
            "duration": round(self.duration, 3),
            "words": [word.to_dict(characters) for word in self.words],
            "extra_speech": [stretch.to_dict() for stretch in self.extra_speech],
        }
        return data | {"warnings": list(self.warnings)} if self.warnings else data


def _plain(part: Word) -> dict[str, object]:
    return {"character": part.word, "start": _rounded(part.start), "end": _rounded(part.end),
            "confidence": round(part.confidence, 4)}  # fmt: skip


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
