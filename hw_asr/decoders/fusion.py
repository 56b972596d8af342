"""How language model and hotwords weigh the classes that may follow a prefix: the kernels.

The weight of a prefix includes the n-gram probability of its finished words and a *lookahead*: the probability of the
best single word that its unfinished one can become, from a trie whose nodes know their best unigram. At the end of the
word the n-gram's probability replaces the lookahead.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.prefix_tree import HOT, STATE, WORD
from hw_asr.decoders.texts import Texts
from hw_asr.lm.table_kernels import advance
from hw_asr.runtime.kernels import Float64Matrix, Int32Matrix, inner_kernel, kernel

AFTER_WORD, IN_USE = range(2)
"""Columns of `Rows.states`: n-gram state after the word that a space would end; whether a prefix uses the row."""
BOUND = 0
"""Column of `Rows.weights` that the blank does not need: the largest weight of the row, the space's excepted."""
OUT_OF_TRIE = -1
SMALLEST = 1e-200


class Rows(NamedTuple):
    """The weights of the classes after each prefix of the beam."""

    weights: Float64Matrix
    """(W, V) linear; a negative weight of the space is minus a bound, not computed yet."""
    states: Int32Matrix
    """(W, 2); see AFTER_WORD and IN_USE."""


@inner_kernel
def look_ahead(nodes: Int32Matrix, node: int, fusion: Fusion) -> float:
    """Return what the weight of a prefix includes for its unfinished word, in nats."""
    place = nodes[node, WORD]
    if place == 0:
        return 0.0
    ahead: float = fusion.trie.lookahead[place] if place > 0 else fusion.unknown_penalty
    return ahead


@inner_kernel
def finish_word(nodes: Int32Matrix, node: int, fusion: Fusion) -> tuple[float, int]:
    """Return what the end of the unfinished word adds to the logarithm of a prefix's weight, and the state after."""
    place, state = nodes[node, WORD], nodes[node, STATE]
    if place == 0:
        return 0.0, state
    ahead = look_ahead(nodes, node, fusion)
    word = fusion.trie.words[place] if place > 0 else -1
    unknown = fusion.unknown_word
    if word >= 0 and word != unknown:
        log_prob, next_state = advance(fusion.ngrams, state, word)
        return fusion.alpha * log_prob + fusion.beta - ahead, next_state
    penalty = fusion.spared_penalty if word == unknown else fusion.unknown_penalty
    log_prob, next_state = advance(fusion.ngrams, state, unknown)
    log_weight = fusion.alpha * (log_prob - fusion.ngrams.log_probs[unknown]) + penalty
    return log_weight + fusion.beta - ahead, next_state


@inner_kernel
def finish_text(nodes: Int32Matrix, node: int, fusion: Fusion) -> float:
    """Return what the end of the text adds to the logarithm of a prefix's weight."""
    log_weight: float = fusion.hotwords.ends[nodes[node, HOT]]
    if fusion.has_model:
        last_word, state = finish_word(nodes, node, fusion)
        log_prob, _ = advance(fusion.ngrams, state, fusion.end_word)
        log_weight += last_word + fusion.alpha * log_prob
    return log_weight


@inner_kernel
def start_node(nodes: Int32Matrix, node: int, parent: int, symbol: int, state_after_word: int, fusion: Fusion) -> None:
    """Fill the language model's columns of a new node."""
    if fusion.hotwords.next_states.shape[0] > 1:
        nodes[node, HOT] = fusion.hotwords.next_states[nodes[parent, HOT], symbol]
    if not fusion.has_model:
        return
    trie = fusion.trie
    nodes[node, STATE] = nodes[parent, STATE]
    place = nodes[parent, WORD]
    nodes[node, WORD] = OUT_OF_TRIE
    if symbol == fusion.space:
        nodes[node, WORD] = 0
        nodes[node, STATE] = state_after_word
    elif place >= 0:
        for child in range(trie.first[place], trie.first[place + 1]):
            if trie.classes[child] == symbol:
                nodes[node, WORD] = child
                break


@inner_kernel
def fill_row(nodes: Int32Matrix, node: int, rows: Rows, row: int, fusion: Fusion) -> None:
    """Write the weight of every class after a prefix to a row.

    The column of the blank takes the largest of them (`BOUND`). The weight of the space is computed by `finish_space`
    when it is needed; until then its column holds minus a bound of it.
    """
    trie, weights = fusion.trie, rows.weights
    place, hot = nodes[node, WORD], nodes[node, HOT]
    gains = fusion.hotwords.gains[hot]
    in_trie = fusion.has_model and place >= 0
    base = trie.exits[place] if in_trie else 1.0
    largest = 0.0
    for symbol in range(weights.shape[1]):
        weight = base * gains[symbol]
        weights[row, symbol] = weight
        largest = weight if weight > largest else largest
    if in_trie:
        for child in range(trie.first[place], trie.first[place + 1]):
            weight = trie.gains[child] * gains[trie.classes[child]]
            weights[row, trie.classes[child]] = weight
            largest = weight if weight > largest else largest
    weights[row, BOUND] = largest
    if fusion.has_model:
        bound = base * fusion.space_bound if place != 0 else 1.0
        weights[row, fusion.space] = -bound * gains[fusion.space]


@inner_kernel
def finish_space(nodes: Int32Matrix, node: int, rows: Rows, row: int, fusion: Fusion) -> float:
    """Write the weight of the space and the state after it to a prefix's row; return the weight.

    After a miss (see `lm.table`) the row stays as it is and the result is 0.
    """
    log_weight, state = finish_word(nodes, node, fusion)
    if fusion.ngrams.num_misses[0] > 0:
        return 0.0
    weight: float = max(math.exp(log_weight), SMALLEST) * fusion.hotwords.gains[nodes[node, HOT], fusion.space]
    rows.weights[row, fusion.space] = weight
    rows.states[row, AFTER_WORD] = state
    return weight


@kernel
def fused_scores(texts: Texts, nodes: Int32Matrix, fusion: Fusion) -> None:
    """Write the logarithms of the weights that language model and hotwords give the texts.

    nodes (2, COLUMNS) is scratch.
    """
    hotwords, room = fusion.hotwords, texts.scores.shape[1]
    for utterance in range(texts.counts.size):
        for text in range(texts.counts[utterance]):
            for column in range(nodes.shape[1]):
                nodes[0, column] = nodes[1, column] = 0
            nodes[0, STATE] = fusion.start_state
            log_weight = 0.0
            for place in range(texts.spans[utterance * room + text, 0], texts.spans[utterance * room + text, 1]):
                symbol = texts.labels[place]
                state: Any = np.int64(0)
                if fusion.has_model and symbol == fusion.space:
                    word_end, state = finish_word(nodes, 0, fusion)
                    log_weight += word_end + look_ahead(nodes, 0, fusion)
                if hotwords.next_states.shape[0] > 1:
                    log_weight += math.log(hotwords.gains[nodes[0, HOT], symbol])
                start_node(nodes, 1, 0, symbol, state, fusion)
                for column in range(nodes.shape[1]):
                    nodes[0, column] = nodes[1, column]
            if fusion.has_model:
                log_weight += look_ahead(nodes, 0, fusion)
            texts.scores[utterance, text] = log_weight + finish_text(nodes, 0, fusion)
