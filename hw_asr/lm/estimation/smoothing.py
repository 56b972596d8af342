"""Interpolated modified Kneser-Ney: adjusted counts to probabilities and back-offs.

Chen and Goodman 1998, as estimated by Heafield, Pouzyrevsky, Clark and Koehn 2013 ("Scalable Modified Kneser-Ney
Language Model Estimation"): p(w | h) = (a(h w) - D) / sum a(h .) + gamma(h) p(w | h without its first word),
where gamma hands on what discounts and pruning took; below the unigrams is the uniform distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw_asr.lm.estimation.counts import SENTENCE_START
from hw_asr.lm.estimation.discounts import discount_of
from hw_asr.lm.estimation.sorting import Array, group_starts, row_type, suffix_order


def unigram_probabilities(counts: Array, discounts: Sequence[float]) -> Array:
    """Return p(w) (V,) from adjusted counts (V,); every word but <s>, <unk> included, shares what was discounted."""
    discount = discount_of(counts, discounts)
    total = counts.sum()
    probabilities: Array = (counts - discount + discount.sum() / (len(counts) - 1)) / total
    probabilities[SENTENCE_START] = 1.0
    return probabilities


def counted_type(order: int) -> np.dtype[np.void]:
    """Type of rows of n-grams with their adjusted counts, waiting to be normalised by context."""
    return row_type(order, count="<i8", kept="?")


def weighted_type(order: int) -> np.dtype[np.void]:
    """Type of rows of n-grams with their own probability and the weight of the shorter n-gram's."""
    return row_type(order, own="<f8", gamma="<f8")


def context_type(order: int) -> np.dtype[np.void]:
    """Type of rows of the contexts of n-grams of this order."""
    return row_type(order - 1, gamma="<f8")


def normalize_contexts(rows: Array, discounts: Sequence[float], num_types: int) -> tuple[Array, Array]:
    """Divide by the totals of contexts, of which `rows` (`counted_type`) must hold all n-grams.

    Returns the n-grams that are kept (`weighted_type`) and the contexts (`context_type`) in suffix order.
    """
    order = rows.dtype["words"].shape[0]
    rows = rows[suffix_order(rows["words"][:, :-1], num_types)] if len(rows) else rows
    starts = group_starts(rows["words"][:, :-1])
    contexts = np.empty(len(starts), dtype=context_type(order))
    if len(starts) == 0:
        return np.empty(0, dtype=weighted_type(order)), contexts
    kept, counts = rows["kept"], rows["count"]
    discount = discount_of(counts, discounts)
    totals = np.add.reduceat(counts, starts)
    left_over = np.add.reduceat(np.where(kept, discount, counts), starts)
    contexts["words"] = rows["words"][starts, :-1]
    contexts["gamma"] = left_over / totals
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))[kept]
    weighted = np.empty(int(kept.sum()), dtype=weighted_type(order))
    weighted["words"] = rows["words"][kept]
    weighted["own"] = (counts[kept] - discount[kept]) / totals[group]
    weighted["gamma"] = contexts["gamma"][group]
    return weighted, contexts


class Entries(NamedTuple):
    """Finished n-grams of one order, as they stand in an ARPA file, in suffix order."""

    words: Array
    """(R, n) ids."""
    log10_probs: Array
    """(R,)"""
    log10_backoffs: Array | None
    """(R,), None for the highest order."""


class Interpolation:
    """Adds up the orders for the n-grams whose last word is in one range of ids; call the orders upwards."""

    def __init__(self, first_word: int, probabilities: Array, num_types: int) -> None:
        self._first_word = first_word
        self._num_types = np.uint64(num_types)
        self._keys: list[Array] = []
        self._words = np.arange(first_word, first_word + len(probabilities), dtype=np.uint32)[:, None]
        self._probabilities = probabilities

    def unigrams(self, contexts: Array | None) -> Entries:
        """Return the unigrams; `contexts` are those of the bigrams that end in a word of the range."""
        return self._entries(contexts)

    def extend(self, rows: Array, contexts: Array | None) -> Entries:
        """Return the next order, `rows` (`weighted_type`); `contexts` are those of the order after it, if any."""
        if len(rows):
            rows = rows[suffix_order(rows["words"], int(self._num_types))]
        shorter, found = self._locate(rows["words"][:, 1:])
        assert found.all(), "an n-gram was kept whose suffix was not"
        self._keys.append(shorter * self._num_types + rows["words"][:, 0])
        self._words = rows["words"]
        self._probabilities = rows["own"] + rows["gamma"] * self._probabilities[shorter]
        return self._entries(contexts)

    def _locate(self, words: Array) -> tuple[Array, Array]:
        """Return where n-grams `words` (R, n), n the current order, stand in it, and whether they do."""
        place = (words[:, -1] - self._first_word).astype(np.uint64)
        found = np.ones(len(words), dtype=bool)
        for keys, column in zip(self._keys, words.T[-2::-1], strict=True):
            wanted = place * self._num_types + column
            place = np.searchsorted(keys, wanted).astype(np.uint64)
            if len(keys) == 0:
                return place, np.zeros(len(words), dtype=bool)
            place = np.minimum(place, np.uint64(len(keys) - 1))
            found &= keys[place] == wanted
        return place, found

    def _entries(self, contexts: Array | None) -> Entries:
        backoffs = None
        if contexts is not None:
            backoffs = np.zeros(len(self._words))
            place, found = self._locate(contexts["words"])
            backoffs[place[found]] = _log10(contexts["gamma"][found])
        return Entries(self._words, _log10(self._probabilities), backoffs)


def _log10(probabilities: Array) -> Array:
    """Return logarithms to base 10; ARPA writes zero as -99."""
    logarithms: Array = np.log10(np.maximum(probabilities, 1e-99))
    return logarithms
