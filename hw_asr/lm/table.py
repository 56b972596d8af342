"""N-grams of all orders in one hash table, walked like an automaton: the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.runtime.kernels import Array, Scalar, kernel

NGRAMS = "Tuple((float32[::1], float32[::1], int32[::1], int32[::1], uint64[::1], int32[::1], int64[:, ::1]))"
"""Per n-gram: its natural log-probability, its back-off, the n-gram without its first word (-1 for a single word),
the state after it; then keys and values of the hash table. Ids 0 .. words - 1 are the single words. Last, questions
(N, 2) that a table which is filled while decoding could not answer, state and word each; the first counts them."""
NO_CONTEXT = -1
EMPTY = -1
ASK = -2
"""Stands for a shorter n-gram where the table does not know yet."""


@kernel("int64(uint64[::1], int32[::1], int64, int64)", inner=True)
def find(keys: Array, values: Array, state: int, word: int) -> Scalar:
    """Return the n-gram that continues the n-gram `state` with `word`, or -1."""
    mask = np.uint64(keys.size - 1)
    key = (np.uint64(state) << np.uint64(32)) | np.uint64(word)
    place = key * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(32))) & mask
    while values[place] != EMPTY:
        if keys[place] == key:
            return np.int64(values[place])
        place = (place + np.uint64(1)) & mask
    return np.int64(-1)


@kernel("void(uint64[::1], int32[::1], int64, int64, int64)")
def insert(keys: Array, values: Array, state: int, word: int, ngram: int) -> None:
    """Let `ngram` be what `find` returns for (state, word)."""
    mask = np.uint64(keys.size - 1)
    key = (np.uint64(state) << np.uint64(32)) | np.uint64(word)
    place = key * np.uint64(0x9E3779B97F4A7C15)
    place = (place ^ (place >> np.uint64(32))) & mask
    while values[place] != EMPTY and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    keys[place] = key
    values[place] = ngram


@kernel("Tuple((float64, int64))(" + NGRAMS + ", int64, int64)", inner=True)
def advance(ngrams: tuple[Any, ...], state: int, word: int) -> tuple[Any, ...]:
    """Return the log-probability of `word` after `state` (Katz 1987) and the state after it."""
    log_probs, backoffs, shorter, next_states, keys, values, questions = ngrams
    log_prob = 0.0
    while state >= 0:
        ngram = find(keys, values, state, word)
        if ngram >= 0:
            return log_prob + log_probs[ngram], np.int64(next_states[ngram])
        if shorter[state] == ASK:
            if questions[0, 0] < questions.shape[0] - 1:
                questions[0, 0] += 1
                questions[questions[0, 0], 0], questions[questions[0, 0], 1] = state, word
            return 0.0, np.int64(-1)
        log_prob += backoffs[state]
        state = np.int64(shorter[state])
    return log_prob + log_probs[word], np.int64(next_states[word])


@kernel("float64(" + NGRAMS + ", int64, int32[::1])")
def score_words(ngrams: tuple[Any, ...], state: int, words: Array) -> Scalar:
    """Return the log-probability of the word ids after `state`."""
    total = 0.0
    for place in range(words.size):
        log_prob, state = advance(ngrams, state, words[place])
        total += log_prob
    return total
