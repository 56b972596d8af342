"""From lines of text to an n-gram language model in an ARPA file, in memory that does not grow with the text."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from hw_asr.lm.estimation.arpa_writer import ArpaSections
from hw_asr.lm.estimation.counts import (
    SENTENCE_START,
    TokenFile,
    adjust_counts,
    count_ngrams,
    merge_counts,
    write_tokens,
)
from hw_asr.lm.estimation.discounts import estimate_discounts
from hw_asr.lm.estimation.smoothing import (
    Interpolation,
    context_type,
    counted_type,
    normalize_contexts,
    unigram_probabilities,
    weighted_type,
)
from hw_asr.lm.estimation.sorting import Array, Buckets, bucket_bounds

MAX_ORDER = 6
_BYTES_PER_ROW = 120
"""Working memory per n-gram and order while a bucket is sorted; a generous bound."""


@dataclass(frozen=True)
class NgramOptions:
    """What kind of model to estimate.

    Raises ValueError for values that cannot be.
    """

    order: int = 3
    prune: Sequence[int] = (0,)
    """N-grams of each order that occur at most so often are left out; the last value holds for all higher orders."""
    discount_fallback: tuple[float, float, float] | None = None
    """Discounts for orders whose counts allow no estimate; None: an error."""
    memory_mb: int = 1024
    """Roughly what sorting may take, besides the vocabulary."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise ValueError(f"order: expected 1 to {MAX_ORDER}, got {self.order}")
        if not self.prune or len(self.prune) > self.order:
            raise ValueError(f"prune: expected 1 to {self.order} values, one per order, got {list(self.prune)}")
        if self.prune[0] != 0:
            raise ValueError(f"prune: the first value must be 0, because unigrams are not pruned, got {self.prune[0]}")
        if list(self.prune) != sorted(self.prune):
            raise ValueError(f"prune: expected values that do not decrease, got {list(self.prune)}")
        if self.discount_fallback and not all(
            0 < discount <= count for count, discount in enumerate(self.discount_fallback, start=1)
        ):
            raise ValueError(
                f"discount_fallback: expected values in (0, 1], (0, 2] and (0, 3], got {list(self.discount_fallback)}"
            )
        if self.memory_mb < 1:
            raise ValueError(f"memory_mb: expected at least 1, got {self.memory_mb}")

    @property
    def thresholds(self) -> list[int]:
        """`prune` with one value for each order."""
        return [self.prune[min(index, len(self.prune) - 1)] for index in range(self.order)]

    @property
    def rows_in_memory(self) -> int:
        """N-grams that may be sorted at a time."""
        return max(self.memory_mb * 2**20 // (_BYTES_PER_ROW * self.order), 1)


class OrderStatistics(NamedTuple):
    """What the text held of one order."""

    num_ngrams: int
    num_kept: int
    discounts: tuple[float, float, float]


def build_language_model(
    lines: Iterable[str], path: Path, alphabet: Collection[str], options: NgramOptions | None = None
) -> list[OrderStatistics]:
    """Estimate a modified Kneser-Ney model from sentences and write it to `path` (.arpa or .arpa.gz).

    Temporary files, up to about 100 bytes for every different n-gram, lie beside `path` meanwhile.
    Raises NgramError when the text allows no model.
    """
    options = options or NgramOptions()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as directory:
        tokens = write_tokens(lines, alphabet, Path(directory) / "tokens")
        estimation = _Estimation(tokens, options, Path(directory))
        estimation.count()
        statistics = estimation.statistics()
        sections = estimation.interpolate([row.discounts for row in statistics])
        sections.write(path, tokens.words)
    return statistics


class _Estimation:
    """The passes over the n-grams, each bucket by bucket, with files in between."""

    def __init__(self, tokens: TokenFile, options: NgramOptions, directory: Path) -> None:
        self._tokens = tokens
        self._options = options
        self._directory = directory
        self._num_types = len(tokens.words)
        weights = np.maximum(tokens.counts, 1)
        weights[SENTENCE_START] = min(tokens.counts.max(), self._num_types)
        self._bounds = bucket_bounds(weights, options.rows_in_memory)
        self._higher = range(2, options.order + 1)
        self._by_context = {order: self._buckets(f"context.{order}", counted_type(order)) for order in self._higher}
        self._unigram_counts = np.zeros(self._num_types, dtype=np.int64)
        self._counts_of_counts = np.zeros((options.order + 1, 5), dtype=np.int64)
        self._num_ngrams = np.zeros((options.order + 1, 2), dtype=np.int64)

    def count(self) -> None:
        """Count, adjust, and send every order on to be normalised by context."""
        order = self._options.order
        counted = count_ngrams(self._tokens, order, self._directory, self._bounds, self._options.rows_in_memory)
        for bucket in tqdm(range(len(counted)), desc="adjusting", unit="part", delay=1, disable=None):
            for adjusted in adjust_counts(merge_counts(counted.take(bucket), self._num_types)):
                self._collect(adjusted.words, adjusted.occurrences, adjusted.counts)

    def _collect(self, words: Array, occurrences: Array, counts: Array) -> None:
        order = words.shape[1]
        kept = occurrences > self._options.thresholds[order - 1]
        self._counts_of_counts[order] += np.bincount(np.minimum(counts, 5), minlength=6)[:5]
        self._num_ngrams[order] += len(words), int(kept.sum())
        if order == 1:
            self._unigram_counts[words[:, 0]] = counts
            return
        rows = np.empty(len(words), dtype=counted_type(order))
        rows["words"], rows["count"], rows["kept"] = words, counts, kept
        self._by_context[order].add(rows, words[:, -2])

    def statistics(self) -> list[OrderStatistics]:
        """Return the discounts and counts of each order; <unk> and <s> count as unigrams."""
        self._num_ngrams[1] = self._num_types
        return [
            OrderStatistics(
                int(self._num_ngrams[order, 0]),
                int(self._num_ngrams[order, 1]),
                estimate_discounts(self._counts_of_counts[order].tolist(), order, self._options.discount_fallback),
            )
            for order in range(1, self._options.order + 1)
        ]

    def interpolate(self, discounts: Sequence[Sequence[float]]) -> ArpaSections:
        """Turn counts into probabilities and back-offs."""
        by_suffix = {order: self._buckets(f"suffix.{order}", weighted_type(order)) for order in self._higher}
        contexts = {order: self._buckets(f"gamma.{order}", context_type(order)) for order in self._higher}
        for order in self._higher:
            buckets = self._by_context[order]
            for bucket in tqdm(
                range(len(buckets)), desc=f"normalising {order}-grams", unit="part", delay=1, disable=None
            ):
                weighted, found = normalize_contexts(buckets.take(bucket), discounts[order - 1], self._num_types)
                by_suffix[order].add(weighted, weighted["words"][:, -1])
                contexts[order].add(found, found["words"][:, -1])
        unigrams = unigram_probabilities(self._unigram_counts, discounts[0])
        sections = ArpaSections(self._directory, self._options.order)
        for bucket in tqdm(range(len(self._bounds) - 1), desc="interpolating", unit="part", delay=1, disable=None):
            first, end = self._bounds[bucket : bucket + 2]
            interpolation = Interpolation(int(first), unigrams[first:end], self._num_types)
            following = contexts[2].take(bucket) if self._higher else None
            sections.add(interpolation.unigrams(following))
            for order in self._higher:
                following = contexts[order + 1].take(bucket) if order + 1 in contexts else None
                sections.add(interpolation.extend(by_suffix[order].take(bucket), following))
        return sections

    def _buckets(self, name: str, dtype: np.dtype[np.void]) -> Buckets:
        return Buckets(self._directory, name, dtype, self._bounds)
