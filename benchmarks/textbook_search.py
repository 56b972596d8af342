"""The beam search of a textbook, in plain Python: what the compiled one is measured against."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray


def decode(log_probs: NDArray[np.float32], alphabet: str, beam_size: int) -> str:
    """Return the best text of log_probs (T, V) by a search over pairs of text and last class.

    The two ways a text can end stay apart in the beam and meet only at the end, so that they take places from others.
    """
    beam = {("", 0): 1.0}
    for frame in np.exp(log_probs):
        candidates: dict[tuple[str, int], float] = defaultdict(float)
        for (text, last), probability in beam.items():
            for symbol, p in enumerate(frame):
                longer = text if symbol in (0, last) else text + alphabet[symbol]
                candidates[longer, symbol] += probability * p
        ranked = sorted(candidates.items(), key=lambda item: item[1], reverse=True)[:beam_size]
        total = sum(probability for _, probability in ranked)
        beam = {state: probability / total for state, probability in ranked}
    texts: dict[str, float] = defaultdict(float)
    for (text, _), probability in beam.items():
        texts[text] += probability
    return max(texts, key=lambda text: texts[text])
