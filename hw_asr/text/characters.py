"""Characters as they are written: a letter with the marks on it."""

from __future__ import annotations

import unicodedata

_AM_VOWELS = ("\u0e33", "\u0eb3", "\u0e4d\u0e32", "\u0ecd\u0eb2")
"""Of Thai and Lao, as one character and decomposed: letters to Unicode, but written partly above the one before."""


def continues(text: str, character: str) -> bool:
    """Whether a character, or none, that follows a text is part of the last one of the text."""
    return unicodedata.category(character or " ").startswith("M") or (text + character).endswith(_AM_VOWELS)


def characters_of(text: str) -> list[str]:
    """Split a text into characters, each with its marks."""
    characters: list[str] = []
    for character in text:
        if characters and continues(characters[-1], character):
            characters[-1] += character
        else:
            characters.append(character)
    return characters
