"""Characters to CTC classes and back."""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import groupby

from hw_asr.config.registry import TEXT_ENCODERS
from hw_asr.text.normalize import normalize

BLANK = 0
BLANK_CHARACTER = "^"


@TEXT_ENCODERS.register()
class CTCCharTextEncoder:
    """One class per character: the blank `^` at index 0, then the alphabet in its given order.

    Raises ValueError when the alphabet repeats a character, holds the blank or an entry that is not one character.
    """

    def __init__(self, alphabet: list[str] | str | None = None) -> None:
        characters = list(string.ascii_lowercase + " " if alphabet is None else alphabet)
        seen: set[str] = set()
        for character in characters:
            if len(character) != 1:
                raise ValueError(f"alphabet: every entry must be one character, got {character!r}")
            if character == BLANK_CHARACTER:
                raise ValueError(f"alphabet: {BLANK_CHARACTER!r} is reserved for the blank")
            if character in seen:
                raise ValueError(f"alphabet: duplicate character {character!r}")
            seen.add(character)
        self.alphabet: tuple[str, ...] = (BLANK_CHARACTER, *characters)
        self._index = {character: index for index, character in enumerate(characters, 1)}
        self._characters = frozenset(characters)

    def __len__(self) -> int:
        """Return the number of classes, the blank included."""
        return len(self.alphabet)

    def normalize(self, text: str) -> str:
        """Bring a transcript into the form that is trained on and scored against."""
        return normalize(text, self._characters)

    def encode(self, text: str) -> list[int]:
        """Return the classes of a normalised text.

        Raises ValueError naming the characters that are not in the alphabet.
        """
        try:
            return list(map(self._index.__getitem__, text))
        except KeyError:
            unknown = sorted(set(text) - self._characters)
            raise ValueError(f"{text!r} has characters that are not in the alphabet: {unknown}") from None

    def decode(self, indices: Sequence[int]) -> str:
        """Return the text of a labelling; blanks print as `^`."""
        return "".join(self.alphabet[index] for index in indices)

    def collapse(self, path: Sequence[int]) -> str:
        """Return the text of a frame-wise CTC path: repeats merged, then blanks dropped (Graves et al. 2006)."""
        merged = [label for label, _ in groupby(path)]
        return self.decode([label for label in merged if label != BLANK])
