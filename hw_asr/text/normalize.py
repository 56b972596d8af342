"""Text normalisation, shared by training, language models and scoring."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

_APOSTROPHES = "'ʼ’‘＇`´"


def normalize(text: str, alphabet: frozenset[str]) -> str:
    """Normalise a transcript as for training and scoring.

    Unicode is composed (NFKC) and folded to the case of the alphabet, as in Turkish if it has a dotless i. Apostrophes
    that the alphabet lacks become one that it has. A letter that the alphabet lacks loses its accent if the letter
    without it is in the alphabet. Hyphens, dashes and slashes separate words, all other unknown characters are removed,
    and runs of white space become one space, or nothing if the alphabet has no space.
    """
    text = _folded(text, alphabet)
    if not alphabet.issuperset(text):
        for parts, character in _decomposed(alphabet):
            text = text.replace(parts, character)
        text = "".join([_known(character, alphabet) for character in text])
    return (" " if " " in alphabet else "").join(text.split())


def _folded(text: str, alphabet: frozenset[str]) -> str:
    apostrophes = _apostrophes(alphabet)
    text = unicodedata.normalize("NFKC", text.translate(apostrophes))  # which would take some apostrophes apart
    if not text.isascii():
        text = text.translate(apostrophes)  # U+0149 becomes one and a letter
    case = _case(alphabet)
    if case == "lower":
        return (text.replace("İ", "i").replace("I", "ı") if "ı" in alphabet else text).lower()
    if case == "upper":
        return (text.replace("i", "İ") if "İ" in alphabet else text).upper()
    return text


@lru_cache
def _decomposed(alphabet: frozenset[str]) -> list[tuple[str, str]]:
    """Return the characters of an alphabet that folding takes out of it, such as U+0E33, each after what it becomes."""
    pairs = [(_folded(character, alphabet), character) for character in alphabet]
    lost = [(parts, character) for parts, character in pairs if not alphabet.issuperset(parts)]
    return sorted(lost, key=lambda pair: (-len(pair[0]), pair))


@lru_cache
def _apostrophes(alphabet: frozenset[str]) -> dict[int, str]:
    """Map the apostrophes that an alphabet lacks to the first one that it has, or to that of ASCII."""
    known = next((mark for mark in _APOSTROPHES if mark in alphabet), "'")
    return {ord(mark): known for mark in _APOSTROPHES if mark not in alphabet}


@lru_cache
def _case(alphabet: frozenset[str]) -> Literal["lower", "upper"] | None:
    """Return the case of the letters of an alphabet; None where they have both or none.

    A letter whose other case is not one letter, such as the German sharp s, belongs to either.
    """
    has_lower = any(character.islower() and len(character.upper()) == 1 for character in alphabet)
    has_upper = any(character.isupper() and len(character.lower()) == 1 for character in alphabet)
    if has_lower == has_upper:
        return None
    return "lower" if has_lower else "upper"


def _known(character: str, alphabet: frozenset[str]) -> str:
    if character in alphabet:
        return character
    if character.isspace() or unicodedata.category(character) == "Pd" or character in "/\\_":
        return " "
    base = unicodedata.normalize("NFKD", character)
    return "".join(part for part in base if part in alphabet and not part.isspace())
