"""How language model and hotwords weigh the classes that may follow a prefix: the kernels.

A prefix carries, besides the probability of its finished words, that of the best single word its unfinished one can
become (lookahead in a trie whose nodes know their best unigram); finishing a word replaces it by the n-gram's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hw_asr.decoders.prefix_tree import HOT, STATE, WORD
from hw_asr.lm.table import NGRAMS, advance
from hw_asr.runtime.kernels import Array, Scalar, kernel

ALPHA, BETA, UNKNOWN_PENALTY, SPACE_BOUND = range(4)
"""Weights; the penalty is what an unknown word gets when the n-grams say nothing of it, a natural logarithm; the bound
times the weight of leaving the trie is at least the weight of the space, both linear."""
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
AFTER_WORD, IN_USE = range(2)
"""Columns of the state of a row of weights: n-gram state after the word that a space would end, whether it is taken."""
BOUND = 0
"""Column of a row of weights that the blank does not need."""
OUT_OF_TRIE = -1
SMALLEST = 1e-200


@kernel("float64(int32[:, ::1], int64, " + FUSION + ")", inner=True)
def look_ahead(nodes: Array, node: int, fusion: tuple[Any, ...]) -> Scalar:
    """Return what a prefix has been given in advance for its unfinished word, in nats."""
    place = nodes[node, WORD]
    if place == 0:
        return 0.0
    return fusion[2][3][place] if place > 0 else fusion[0][UNKNOWN_PENALTY]


@kernel("Tuple((float64, int64))(int32[:, ::1], int64, " + FUSION + ")", inner=True)
def finish_word(nodes: Array, node: int, fusion: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what the end of the unfinished word adds to the logarithm of a prefix's weight, and the state after."""
    weights, ids, (_, _, words, _, _, _), ngrams, _ = fusion
    place, state = nodes[node, WORD], np.int64(nodes[node, STATE])
    if place == 0:
        return 0.0, state
    ahead = look_ahead(nodes, node, fusion)
    word = words[place] if place > 0 else np.int32(-1)
    if word >= 0:
        log_prob, state = advance(ngrams, state, word)
        return weights[ALPHA] * log_prob + weights[BETA] - ahead, state
    unknown = ids[UNKNOWN]
    log_prob, state = advance(ngrams, state, unknown)
    log_weight = weights[ALPHA] * (log_prob - ngrams[0][unknown]) + weights[UNKNOWN_PENALTY]
    return log_weight + weights[BETA] - ahead, state


@kernel("float64(int32[:, ::1], int64, " + FUSION + ")", inner=True)
def finish_text(nodes: Array, node: int, fusion: tuple[Any, ...]) -> Scalar:
    """Return what the end of the text adds to the logarithm of a prefix's weight."""
    weights, ids, trie, ngrams, (_, _, hot_ends) = fusion
    log_weight = hot_ends[nodes[node, HOT]]
    if trie[0].size > 0:
        last_word, state = finish_word(nodes, node, fusion)
        log_prob, state = advance(ngrams, state, ids[END])
        log_weight += last_word + weights[ALPHA] * log_prob
    return log_weight


@kernel("void(int32[:, ::1], int64, int64, int64, int64, " + FUSION + ")", inner=True)
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


@kernel("void(int32[:, ::1], int64, float64[:, ::1], int64, " + FUSION + ")", inner=True)
def fill_row(nodes: Array, node: int, rows: Array, row: int, fusion: tuple[Any, ...]) -> None:
    """Write the weight of every class after a prefix to a row of (W, V).

    In place of the blank stands the largest of them, the space's aside. That waits for `finish_space`: until then minus
    a bound of it stands there.
    """
    weights, ids, (first, classes, _, _, gains, exits), _, (_, hot_gains, _) = fusion
    place, hot = nodes[node, WORD], nodes[node, HOT]
    in_trie = first.size > 0 and place >= 0
    base = exits[place] if in_trie else 1.0
    largest = 0.0
    for symbol in range(rows.shape[1]):
        weight = base * hot_gains[hot, symbol]
        rows[row, symbol] = weight
        largest = weight if weight > largest else largest
    if in_trie:
        for child in range(first[place], first[place + 1]):
            weight = gains[child] * hot_gains[hot, classes[child]]
            rows[row, classes[child]] = weight
            largest = weight if weight > largest else largest
    rows[row, BOUND] = largest
    if first.size > 0:
        bound = base * weights[SPACE_BOUND] if place != 0 else 1.0
        rows[row, ids[SPACE]] = -bound * hot_gains[hot, ids[SPACE]]


@kernel("float64(int32[:, ::1], int64, float64[:, ::1], int64, int32[:, ::1], " + FUSION + ")", inner=True)
def finish_space(nodes: Array, node: int, rows: Array, row: int, row_states: Array, fusion: tuple[Any, ...]) -> Scalar:
    """Write the weight of the space to a prefix's row, note the state after it, and return the weight."""
    log_weight, state = finish_word(nodes, node, fusion)
    if fusion[3][6][0, 0] > 0:  # the model had to ask: the frame will be done again
        return 0.0
    weight = math.exp(log_weight)
    space = fusion[1][SPACE]
    rows[row, space] = (weight if weight > SMALLEST else SMALLEST) * fusion[4][1][nodes[node, HOT], space]
    row_states[row, AFTER_WORD] = state
    return rows[row, space]


@kernel("float64(int32[::1], int32[:, ::1], " + FUSION + ")")
def fused_score(labels: Array, nodes: Array, fusion: tuple[Any, ...]) -> Scalar:
    """Return the logarithm of the weight that language model and hotwords give a whole text, as classes.

    nodes (2, ...) is room to work in, zeros.
    """
    nodes[0, STATE] = fusion[1][START]
    hot_next, hot_gains, _ = fusion[4]
    has_model, log_weight = fusion[2][0].size > 0, 0.0
    for place in range(labels.size):
        symbol, state = labels[place], np.int64(0)
        if has_model and symbol == fusion[1][SPACE]:
            word_end, state = finish_word(nodes, 0, fusion)
            log_weight += word_end + look_ahead(nodes, 0, fusion)
        if hot_next.shape[0] > 1:
            log_weight += math.log(hot_gains[nodes[0, HOT], symbol])
        start_node(nodes, 1, 0, symbol, state, fusion)
        for column in range(nodes.shape[1]):
            nodes[0, column] = nodes[1, column]
    if has_model:
        log_weight += look_ahead(nodes, 0, fusion)
    return log_weight + finish_text(nodes, 0, fusion)
