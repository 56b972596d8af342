"""The tables by which language model and hotwords weigh prefixes, as the kernels of `fusion` take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hw_asr.decoders.base import Matrix
from hw_asr.decoders.hotwords import Hotwords
from hw_asr.lm.table import NgramTable
from hw_asr.lm.trie import Trie, build_trie
from hw_asr.runtime.kernels import Float64Matrix, Float64Vector, Int32Matrix, Int32Vector

if TYPE_CHECKING:
    from hw_asr.lm.language_model import LanguageModel

LARGEST_LOG_WEIGHT = 300.0


class LookaheadTrie(NamedTuple):
    """The words that can be spelled, per trie node; node 0 is the root."""

    first: Int32Vector
    """(nodes + 1,) children of node k: first[k] .. first[k + 1] - 1."""
    classes: Int32Vector
    words: Int32Vector
    """The word that ends here, or -1."""
    lookahead: Float64Vector
    """Weighted log-probability of the best word below, in nats."""
    gains: Float64Vector
    """Linear weight of coming here from the parent."""
    exits: Float64Vector
    """Linear weight of leaving the trie here: the unknown word's penalty in place of the lookahead."""


class HotwordTable(NamedTuple):
    """The automaton of the hotwords; a single state means no hotwords."""

    next_states: Int32Matrix
    """(states, classes)."""
    gains: Float64Matrix
    """(states, classes) linear weights."""
    ends: Float64Vector
    """(states,) what the end of the text adds, in nats."""


class Fusion(NamedTuple):
    """All that weighs prefixes besides their CTC probability."""

    has_model: bool
    """Whether there is a language model, not just hotwords."""
    alpha: float
    beta: float
    unknown_penalty: float
    """Nats for an unknown word, before what the n-grams add."""
    spared_penalty: float
    """The same for the unknown words of hotwords, which are words of the trie with the id of <unk>."""
    space_bound: float
    """Linear; times the weight of leaving the trie it is at least the weight of the space."""
    space: int
    """The class of the space, or -1."""
    start_state: int
    """N-gram state before the first word."""
    end_word: int
    """Id of </s>."""
    unknown_word: int
    """Id of <unk>."""
    trie: LookaheadTrie
    ngrams: NgramTable
    hotwords: HotwordTable


class Weights(NamedTuple):
    """How a language model counts; see `LanguageModelBeamSearchDecoder`."""

    alpha: float
    beta: float
    unknown_word_offset: float


def without_language_model(alphabet: Sequence[str], boosts: Mapping[str, float]) -> Fusion:
    """Return the tables for hotwords only; `boosts` are in nats and may be empty."""
    integers, singles, doubles = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0)
    return Fusion(
        has_model=False,
        alpha=0.0,
        beta=0.0,
        unknown_penalty=0.0,
        spared_penalty=0.0,
        space_bound=0.0,
        space=list(alphabet).index(" ") if " " in alphabet else -1,
        start_state=-1,
        end_word=0,
        unknown_word=0,
        trie=LookaheadTrie(integers, integers, integers, doubles, doubles, doubles),
        ngrams=NgramTable(
            singles, singles, integers, integers, np.zeros(2, np.uint64), integers,
            np.zeros((0, 2), np.int64), np.zeros(1, np.int64),
        ),
        hotwords=hotword_table(alphabet, boosts),
    )  # fmt: skip


def with_language_model(model: LanguageModel, weights: Weights, boosts: Mapping[str, float]) -> Fusion:
    """Return the tables for a language model and hotwords.

    A phrase gets its boost in nats. Its words that the model does not know are spared the offset wherever they occur.
    """
    alpha, beta, offset = weights
    best, words = model.trie.best, model.trie.words
    log_unknown = float(model.ngrams.log_probs[model.special.unknown] if model.has_unknown else best[words >= 0].min())
    spared = {word for phrase in boosts for word in phrase.split() if word not in model}
    first, classes, words, best = _with_words(model, sorted(spared), log_unknown) if spared else model.trie
    penalty = alpha * log_unknown + offset
    lookahead = alpha * best.astype(np.float64)
    parents = np.repeat(np.arange(len(classes)), np.diff(first))
    gains = np.ones(len(classes))
    gains[1:] = linear(lookahead[1:] - lookahead[parents])
    return Fusion(
        has_model=True,
        alpha=float(alpha),
        beta=float(beta),
        unknown_penalty=penalty,
        spared_penalty=alpha * log_unknown,
        space_bound=float(linear(np.array(beta + 2 * max(0.0, offset) - penalty))),
        space=model.alphabet.index(" "),
        start_state=model.start_state,
        end_word=model.special.end,
        unknown_word=model.special.unknown,
        trie=LookaheadTrie(first, classes, words, lookahead, gains, linear(penalty - lookahead)),
        ngrams=model.ngrams,
        hotwords=hotword_table(model.alphabet, boosts),
    )


def _with_words(model: LanguageModel, unknown: Sequence[str], log_unknown: float) -> Trie:
    """Return the trie of a model with some unknown words added, so that the lookahead covers them."""
    known = list(model.words)
    log_probs = np.append(model.ngrams.log_probs[: len(known)], np.full(len(unknown), log_unknown, np.float32))
    trie = build_trie([*known, *unknown], log_probs, model.alphabet)
    trie.words[trie.words >= len(known)] = model.special.unknown
    return trie


def hotword_table(alphabet: Sequence[str], boosts: Mapping[str, float]) -> HotwordTable:
    """Return the automaton of the hotwords; a single state when there are none."""
    if not boosts:
        return HotwordTable(np.zeros((1, len(alphabet)), np.int32), np.ones((1, len(alphabet))), np.zeros(1))
    automaton = Hotwords(boosts, alphabet)
    return HotwordTable(automaton.next_states, linear(automaton.log_weights), automaton.end_log_weights)


def linear(log_weights: Matrix) -> Matrix:
    """Return weights of logarithms, clipped so that a product of a few of them neither vanishes nor overflows."""
    weights: Matrix = np.exp(np.clip(log_weights, -LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT))
    return weights
