"""Words and phrases that get a boost: an automaton over characters."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from hw_asr.types import TextEncoder

MAX_CHARACTERS = 200_000
"""Of all hotwords together."""
MAX_TRANSITIONS = 1 << 26
"""Characters of all hotwords times characters of the alphabet; each takes 12 bytes."""


class Hotwords:
    """Adds a boost, in nats, for every occurrence of a phrase in the text, as whole words (Aho and Corasick 1975).

    Part of the boost is added with every character of a phrase and removed when the phrase is not completed, so that
    the phrase survives in the beam.
    """

    def __init__(self, boosts: Mapping[str, float], alphabet: Sequence[str]) -> None:
        self._classes = {character: index for index, character in enumerate(alphabet)}
        self._space = self._classes.get(" ", -1)
        self._children: list[dict[int, int]] = [{}]
        self._depth = [0]
        self._lent = [0.0]
        self._earned = [0.0]
        for phrase, boost in boosts.items():
            self._add(phrase, boost)
        self._build()

    def _add(self, phrase: str, boost: float) -> None:
        state = self._enter(0, self._space, 0.0)
        for count, character in enumerate(phrase, 1):
            state = self._enter(state, self._classes[character], boost * count / (len(phrase) + 1))
        state = self._enter(state, self._space, 0.0)
        self._earned[state] += boost

    def _enter(self, state: int, symbol: int, lent: float) -> int:
        if symbol not in self._children[state]:
            self._children[state][symbol] = len(self._children)
            self._children.append({})
            self._depth.append(self._depth[state] + 1)
            self._lent.append(0.0)
            self._earned.append(0.0)
        child = self._children[state][symbol]
        self._lent[child] = max(self._lent[child], lent, key=abs)
        return child

    def _build(self) -> None:
        num_states, num_classes = len(self._children), len(self._classes)
        symbols = sorted({symbol for children in self._children for symbol in children})
        following: list[dict[int, int]] = [dict(children) for children in self._children]
        fallback = [0] * num_states
        queue = deque([0])
        while queue:
            state = queue.popleft()
            for symbol in symbols:
                back = following[fallback[state]].get(symbol, 0) if state else 0
                if symbol in self._children[state]:
                    child = self._children[state][symbol]
                    fallback[child] = back
                    self._earned[child] += self._earned[back]
                    self._lent[child] = max(self._lent[child], self._lent[back], key=abs)
                    queue.append(child)
                else:
                    following[state][symbol] = back
        start = following[0].get(self._space, 0)
        order = [start, *(state for state in range(num_states) if state != start)]
        place = {state: index for index, state in enumerate(order)}
        lent, earned = np.array(self._lent)[order], np.array(self._earned)[order]
        self.next_states = np.full((num_states, num_classes), place[0], np.int32)
        for state, transitions in enumerate(following):
            for symbol, target in transitions.items():
                if symbol >= 0:
                    self.next_states[place[state], symbol] = place[target]
        self.log_weights = (lent + earned)[self.next_states] - lent[:, None]
        ends = np.array([place[transitions.get(self._space, 0)] for transitions in following])[order]
        self.end_log_weights = earned[ends] - lent


def read_hotwords(
    hotwords: Mapping[str, float] | Sequence[str] | None, weight: float, text_encoder: TextEncoder
) -> dict[str, float]:
    """Return the normalised phrases with their boosts: their own, or `weight` for listed phrases.

    Raises ValueError naming a phrase without any character of the alphabet, and for more text than fits in memory.
    """
    given = hotwords if isinstance(hotwords, Mapping) else dict.fromkeys(hotwords or (), weight)
    boosts: dict[str, float] = {}
    for phrase, boost in given.items():
        normalised = text_encoder.normalize(phrase)
        if not normalised:
            raise ValueError(f"hotwords: {phrase!r} has no character of the alphabet")
        if not isinstance(boost, Real) or not math.isfinite(boost):
            raise ValueError(f"hotwords: expected a finite boost for {phrase!r}, got {boost}")
        boosts[normalised] = float(boost)
    size = sum(map(len, boosts))
    if size > MAX_CHARACTERS or size * len(text_encoder.alphabet) > MAX_TRANSITIONS:
        most = min(MAX_CHARACTERS, MAX_TRANSITIONS // len(text_encoder.alphabet))
        raise ValueError(f"hotwords: {size} characters in all; expected at most {most}")
    return boosts
