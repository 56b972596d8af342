"""A text as the model spells it, word by word; the words keep their own spelling."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import NamedTuple

from hw_asr.errors import UserError
from hw_asr.types import TextEncoder


class TranscriptError(UserError):
    """A text that cannot be aligned."""


class TextWord(NamedTuple):
    """A word of a text."""

    spelling: str
    """As in the text, with its punctuation."""
    normalized: str
    """In the alphabet of the model; empty when no character of the word is in it."""


class Transcript(NamedTuple):
    """The words of a text."""

    words: list[TextWord]
    warning: str | None
    """Which letters and digits of the text are not in the alphabet; None if all are."""


def read_transcript(text: str, encoder: TextEncoder) -> Transcript:
    """Split a text at white space, or into characters if the alphabet has no space, and normalise each word.

    Punctuation between spaces, such as a dash, belongs to the word before it. Raises TranscriptError for a text
    without any character of the alphabet.
    """
    text = unicodedata.normalize("NFC", text)  # a letter and its accent are one character
    has_space = " " in encoder.alphabet
    words: list[TextWord] = []
    tokens = text.split() if has_space else [character for character in text if not character.isspace()]
    for token in tokens:
        word = TextWord(token, encoder.normalize(token))
        if words and not word.normalized and not any(map(str.isalnum, token)):
            before = words[-1]
            words[-1] = before._replace(spelling=f"{before.spelling}{' ' if has_space else ''}{token}")
        else:
            words.append(word)
    if not any(word.normalized for word in words):
        reason = "no character of the text is in the model's alphabet" if words else "the text is empty"
        raise TranscriptError(f"nothing to align: {reason}; give what is said in the recording")
    return Transcript(words, _warning(text, encoder))


def _warning(text: str, encoder: TextEncoder) -> str | None:
    counts = Counter(text)
    lost = {
        character: count
        for character, count in counts.items()
        if character.isalnum() and not encoder.normalize(character).strip()
    }
    if not lost:
        return None
    most = sorted(lost, key=lambda character: (-lost[character], character))
    shown = ", ".join(f"{character!r} ({lost[character]})" for character in most[:10])
    return (
        f"{sum(lost.values())} characters of the text are not in the model's alphabet and are ignored: {shown}"
        + (f" and {len(most) - 10} more" if len(most) > 10 else "")
        + "; write numbers as words"
    )
