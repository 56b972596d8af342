"""The kernels of the n-gram table that decoding does not need: insertion, and the score of a sentence."""

from __future__ import annotations

import numpy as np

from hw_asr.lm.table import EMPTY, NgramTable
from hw_asr.lm.table_kernels import advance
from hw_asr.runtime.kernels import Int32Vector, UInt64Vector, kernel


@kernel
def insert(keys: UInt64Vector, values: Int32Vector, state: int, word: int, ngram: int) -> None:
    """Let `ngram` be what `find` returns for (state, word)."""
    mask = np.uint64(keys.size - 1)
    key = (np.uint64(state) << np.uint64(32)) | np.uint64(word)
    place = key * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(32))) & mask
    while values[place] != EMPTY and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    keys[place] = key
    values[place] = ngram


@kernel
def score_words(ngrams: NgramTable, state: int, words: Int32Vector) -> float:
    """Return the log-probability of the word ids after `state`."""
    total = 0.0
    for place in range(words.size):
        log_prob, state = advance(ngrams, state, words[place])
        total += log_prob
    return total
