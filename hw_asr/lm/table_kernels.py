"""The kernels of the n-gram table: look-ups and the walk from state to state."""

from __future__ import annotations

import numpy as np

from hw_asr.lm.table import EMPTY, UNRESOLVED, NgramTable
from hw_asr.runtime.kernels import Int32Vector, UInt64Vector, inner_kernel


@inner_kernel
def find(keys: UInt64Vector, values: Int32Vector, state: int, word: int) -> int:
    """Return the n-gram that continues the n-gram `state` with `word`, or -1."""
    mask = np.uint64(keys.size - 1)
    key = (np.uint64(state) << np.uint64(32)) | np.uint64(word)
    place = key * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(32))) & mask
    while values[place] != EMPTY:
        if keys[place] == key:
            ngram: int = values[place]
            return ngram
        place = (place + np.uint64(1)) & mask
    return -1


@inner_kernel
def advance(ngrams: NgramTable, state: int, word: int) -> tuple[float, int]:
    """Return the log-probability of `word` after `state` (Katz 1987) and the state after it."""
    log_prob = 0.0
    while state >= 0:
        ngram = find(ngrams.keys, ngrams.values, state, word)
        if ngram >= 0:
            return log_prob + ngrams.log_probs[ngram], ngrams.next_states[ngram]
        if ngrams.shorter[state] == UNRESOLVED:
            count = ngrams.num_misses[0]
            if count < ngrams.misses.shape[0]:
                ngrams.misses[count, 0], ngrams.misses[count, 1] = state, word
                ngrams.num_misses[0] = count + 1
            return 0.0, -1
        log_prob += ngrams.backoffs[state]
        state = ngrams.shorter[state]
    return log_prob + ngrams.log_probs[word], ngrams.next_states[word]
