"""The one normalisation that training, language models and scoring share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "＇": "'", "`": "'"})
_SPACES = re.compile(r"\s+")


def normalize(text: str, alphabet: Collection[str]) -> str:
    """Bring a transcript into the form that is trained on and scored against.

    Unicode is composed (NFKC) and case folded to the case the alphabet has; a letter that the alphabet lacks loses
    its accent if that makes it known; hyphens, dashes and slashes separate words, every other unknown character is
    dropped; runs of white space become one space.
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    text = _fold_case(text, alphabet)
    if not set(text).issubset(alphabet):
        text = "".join([_known(character, alphabet) for character in text])
    return _SPACES.sub(" ", text).strip()


def _fold_case(text: str, alphabet: Collection[str]) -> str:
    has_lower = any(character.islower() for character in alphabet)
    has_upper = any(character.isupper() for character in alphabet)
    if has_lower == has_upper:
        return text
    return text.lower() if has_lower else text.upper()


def _known(character: str, alphabet: Collection[str]) -> str:
    if character in alphabet:
        return character
    if character.isspace() or unicodedata.category(character) == "Pd" or character in "/\\_":
        return " "
    base = unicodedata.normalize("NFKD", character)
    return "".join(part for part in base if part in alphabet and not part.isspace())
