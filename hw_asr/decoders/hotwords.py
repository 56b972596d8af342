"""Words and phrases that get a boost: an automaton over characters."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from hw_asr.types import TextEncoder

MAX_CHARACTERS = 200_000
"""Of all hotwords together."""
MAX_TRANSITIONS = 1 << 26
"""Characters of all hotwords times characters of the alphabet; each takes 12 bytes, and 28 for some seconds."""
LARGEST_BOOST = 200.0
"""In nats. What a character adds to a score is limited (`fusion_tables.LARGEST_LOG_WEIGHT`)."""


class Hotwords:
    """Adds a boost, in nats, for every occurrence of a phrase in the text (Aho and Corasick 1975).

    Phrases match whole words; without a space in the alphabet they match anywhere. Part of the boost is added with
    every character of a phrase and removed when the phrase is not completed, so that the phrase survives in the beam.
    """

    def __init__(self, boosts: Mapping[str, float], alphabet: Sequence[str]) -> None:
        self._classes = {character: index for index, character in enumerate(alphabet)}
        self._boundary = [self._classes[" "]] if " " in self._classes else []
        self._children: list[dict[int, int]] = [{}]
        self._lent = [0.0]
        self._earned = [0.0]
        for phrase, boost in boosts.items():
            self._add(phrase, boost)
        self._build()

    def _add(self, phrase: str, boost: float) -> None:
        symbols = [*self._boundary, *map(self._classes.__getitem__, phrase), *self._boundary]
        state, last = 0, len(phrase) + len(self._boundary)
        for count, symbol in enumerate(symbols, 1 - len(self._boundary)):
            state = self._enter(state, symbol)
            if count < last:
                self._lent[state] = max(self._lent[state], boost * count / last, key=abs)
        self._earned[state] += boost

    def _enter(self, state: int, symbol: int) -> int:
        if symbol not in self._children[state]:
            self._children[state][symbol] = len(self._children)
            self._children.append({})
            self._lent.append(0.0)
            self._earned.append(0.0)
        return self._children[state][symbol]

    def _build(self) -> None:
        num_states, num_classes = len(self._children), len(self._classes)
        table = np.zeros((num_states, num_classes), np.int32)
        fallback = [0] * num_states
        queue = deque([0])
        while queue:
            state = queue.popleft()
            table[state] = table[fallback[state]]
            for symbol, child in self._children[state].items():
                back = fallback[child] = int(table[state, symbol])
                self._earned[child] += self._earned[back]
                self._lent[child] = max(self._lent[child], self._lent[back], key=abs)
                table[state, symbol] = child
                queue.append(child)
        start = int(table[0, self._boundary[0]]) if self._boundary else 0
        order = np.array([start, *(state for state in range(num_states) if state != start)])
        place = np.argsort(order).astype(np.int32)
        lent, earned = np.array(self._lent)[order], np.array(self._earned)[order]
        self.next_states = place[table[order]]
        self.log_weights = (lent + earned)[self.next_states] - lent[:, None]
        ends = self.next_states[:, self._boundary[0]] if self._boundary else np.zeros(num_states, np.int32)
        self.end_log_weights = earned[ends] - lent


def read_hotwords(
    hotwords: Mapping[str, float] | Sequence[str] | None, weight: float, text_encoder: TextEncoder
) -> dict[str, float]:
    """Return the normalised phrases with their boosts: their own, or `weight` for listed phrases.

    Raises ValueError naming a phrase without any character of the alphabet or with a boost out of range, and for more
    text than fits in memory.
    """
    given = hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords or (), weight)
    boosts: dict[str, float] = {}
    for phrase, boost in given.items():
        normalised = text_encoder.normalize(phrase)
        if not normalised:
            raise ValueError(f"hotwords: {phrase!r} has no character of the alphabet")
        if not isinstance(boost, Real) or not abs(boost) <= LARGEST_BOOST:
            bounds = f"{-LARGEST_BOOST:g} and {LARGEST_BOOST:g}"
            raise ValueError(f"hotwords: expected a boost between {bounds} for {phrase!r}, got {boost}")
        boosts[normalised] = float(boost)
    size = sum(map(len, boosts))
    if size > MAX_CHARACTERS or size * len(text_encoder.alphabet) > MAX_TRANSITIONS:
        most = min(MAX_CHARACTERS, MAX_TRANSITIONS // len(text_encoder.alphabet))
        raise ValueError(f"hotwords: {size} characters in all; expected at most {most}")
    return boosts
