"""How language model and hotwords weigh the classes that may follow a prefix: the kernels.

A prefix carries, besides the probability of its finished words, that of the best single word its unfinished one can
become (lookahead in a trie whose nodes know their best unigram); finishing a word replaces it by the n-gram's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.decoders.prefix_tree import HOT, STATE, WORD
from hw_asr.jit import Array, kernel
from hw_asr.text.lm_table import NGRAMS, advance

ALPHA, BETA, UNKNOWN_PENALTY = range(3)
"""Weights; the penalty is what an unknown word gets when the n-grams say nothing of it, a natural logarithm."""
SPACE, START, END, UNKNOWN = range(4)
"""Ids: the class of the space or -1, the n-gram state before the first word, the words </s> and <unk>."""
WEIGHTS = "float64[::1]"
IDS = "int32[::1]"
TRIE = "Tuple((int32[::1], int32[::1], int32[::1], float64[::1], float64[::1], float64[::1]))"
"""Per node: first child, class, word or -1, lookahead in nats, weight of going there from the parent, weight of
leaving the trie there. Node 0 is the root, no nodes at all mean no language model."""
HOTWORDS = "Tuple((int32[:, ::1], float64[:, ::1], float64[::1]))"
"""Per state and class: next state, weight; per state: what the end of the text adds, in nats. One state is none."""
FUSION = f"Tuple(({WEIGHTS}, {IDS}, {TRIE}, {NGRAMS}, {HOTWORDS}))"
OUT_OF_TRIE = -1
PENDING = -1.0
SMALLEST = 1e-200


@kernel("Tuple((float64, int64))(int32[:, ::1], int64, " + FUSION + ")")
def finish_word(nodes: Array, node: int, fusion: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what the end of the unfinished word adds to the logarithm of a prefix's weight, and the state after."""
    weights, ids, (_, _, words, lookahead, _, _), ngrams, _ = fusion
    place, state = nodes[node, WORD], np.int64(nodes[node, STATE])
    if place == 0:
        return 0.0, state
    ahead = lookahead[place] if place > 0 else weights[UNKNOWN_PENALTY]
    word = words[place] if place > 0 else np.int32(-1)
    if word >= 0:
        log_prob, state = advance(ngrams, state, word)
        return weights[ALPHA] * log_prob + weights[BETA] - ahead, state
    unknown = ids[UNKNOWN]
    log_prob, state = advance(ngrams, state, unknown)
    log_weight = weights[ALPHA] * (log_prob - ngrams[0][unknown]) + weights[UNKNOWN_PENALTY]
    return log_weight + weights[BETA] - ahead, state


@kernel("float64(int32[:, ::1], int64, " + FUSION + ")")
def finish_text(nodes: Array, node: int, fusion: tuple[Any, ...]) -> float:
    """Return what the end of the text adds to the logarithm of a prefix's weight."""
    weights, ids, trie, ngrams, (_, _, hot_ends) = fusion
    log_weight = hot_ends[nodes[node, HOT]]
    if trie[0].size > 0:
        last_word, state = finish_word(nodes, node, fusion)
        log_prob, state = advance(ngrams, state, ids[END])
        log_weight += last_word + weights[ALPHA] * log_prob
    return log_weight


@kernel("void(int32[:, ::1], int64, int64, int64, int64, " + FUSION + ")")
def start_node(
    nodes: Array, node: int, parent: int, symbol: int, state_after_word: int, fusion: tuple[Any, ...]
) -> None:
    """Fill the language model's columns of a new node."""
    _, ids, (first, classes, _, _, _, _), _, (hot_next, _, _) = fusion
    if hot_next.shape[0] > 1:
        nodes[node, HOT] = hot_next[nodes[parent, HOT], symbol]
    if first.size == 0:
        return
    nodes[node, STATE] = nodes[parent, STATE]
    place = nodes[parent, WORD]
    nodes[node, WORD] = OUT_OF_TRIE
    if symbol == ids[SPACE]:
        nodes[node, WORD] = 0
        nodes[node, STATE] = state_after_word
    elif place >= 0:
        for child in range(first[place], first[place + 1]):
            if classes[child] == symbol:
                nodes[node, WORD] = child
                break


@kernel("void(int32[:, ::1], int64, float64[::1], " + FUSION + ")")
def fill_row(nodes: Array, node: int, row: Array, fusion: tuple[Any, ...]) -> None:
    """Write the weight of every class after a prefix to `row` (V,); that of the space waits until it is needed."""
    _, ids, (first, classes, _, _, gains, exits), _, (hot_next, hot_gains, _) = fusion
    if first.size > 0:
        place = nodes[node, WORD]
        row[:] = exits[place] if place >= 0 else 1.0
        if place >= 0:
            for child in range(first[place], first[place + 1]):
                row[classes[child]] = gains[child]
    else:
        row[:] = 1.0
    if hot_next.shape[0] > 1:
        row *= hot_gains[nodes[node, HOT]]
    if first.size > 0:
        row[ids[SPACE]] = PENDING


@kernel("void(int32[:, ::1], int32[:, ::1], int64, float64[:, ::1], int32[::1], " + FUSION + ")")
def finish_words(
    nodes: Array, beam: Array, num_beam: int, rows: Array, next_states: Array, fusion: tuple[Any, ...]
) -> None:
    """Compute the weights of the space that still wait, and the states after it; beam slots are (node, class, row)."""
    space = fusion[1][SPACE]
    hot_gains = fusion[4][1]
    for slot in range(num_beam):
        node, row = beam[slot, 0], beam[slot, 2]
        if rows[row, space] == PENDING:
            log_weight, state = finish_word(nodes, node, fusion)
            rows[row, space] = max(np.exp(log_weight), SMALLEST) * hot_gains[nodes[node, HOT], space]
            next_states[row] = state


@kernel("float64(int32[::1], " + FUSION + ")")
def fused_score(labels: Array, fusion: tuple[Any, ...]) -> float:
    """Return the logarithm of the weight that language model and hotwords give a whole text, as classes."""
    nodes = np.zeros((2, 6), np.int32)
    nodes[0, STATE] = fusion[1][START]
    row = np.empty(fusion[4][1].shape[1])
    hot_gains = fusion[4][1]
    log_weight = 0.0
    for symbol in labels:
        state = np.int64(0)
        if fusion[2][0].size > 0:
            fill_row(nodes, 0, row, fusion)
            if symbol == fusion[1][SPACE]:
                word_end, state = finish_word(nodes, 0, fusion)
                log_weight += word_end + np.log(hot_gains[nodes[0, HOT], symbol])
            else:
                log_weight += np.log(row[symbol])
        else:
            log_weight += np.log(hot_gains[nodes[0, HOT], symbol])
        start_node(nodes, 1, 0, symbol, state, fusion)
        nodes[0] = nodes[1]
    return log_weight + finish_text(nodes, 0, fusion)
