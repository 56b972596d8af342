"""Confidence intervals of error rates, and significance of differences."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_UTTERANCES = 5
"""Below this the percentiles of a bootstrap are meaningless."""
MIN_COMPARED = 20
"""Below this neither the bootstrap nor the normal approximation can tell two systems apart."""

DRAWN_AT_ONCE = 100_000
"""Utterances: bounds the memory, and spares small sets a call for every resample."""


def resampled_rates(errors: Array, lengths: Array, resamples: int, seed: int = 0) -> Array:
    """Return corpus rates (R, K) of R sets of utterances drawn with replacement (Bisani and Ney 2004).

    `errors` and `lengths` are (N, K): N utterances, K decoders or systems, which see the same draws.
    """
    generator = np.random.default_rng(seed)
    stacked = np.concatenate([errors, lengths], axis=1)
    sums = np.empty((resamples, stacked.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // len(stacked))
    for start in range(0, resamples, at_once):
        some = sums[start : start + at_once]
        some[:] = stacked[generator.integers(0, len(stacked), (len(some), len(stacked)))].sum(axis=1)
    total_errors, total_lengths = np.split(sums, 2, axis=1)
    return np.divide(total_errors, total_lengths, out=np.ones_like(total_errors), where=total_lengths > 0)


def interval(errors: Array, lengths: Array, resamples: int = 1000) -> list[list[float] | None]:
    """Return the 95 % interval of each of K corpus rates; None where there are too few utterances.

    `errors` and `lengths` are (N, K).
    """
    if len(errors) < MIN_UTTERANCES:
        return [None] * errors.shape[1]
    low, high = np.percentile(resampled_rates(errors, lengths, resamples), [2.5, 97.5], axis=0)
    return [[float(a), float(b)] for a, b in zip(low, high, strict=True)]


class Difference(NamedTuple):
    """System B minus system A on the same utterances."""

    difference: float
    """Of the corpus rates."""
    interval: list[float] | None
    """Its 95 % interval by paired bootstrap; None, as the others, for less than MIN_COMPARED utterances."""
    bootstrap_p: float | None
    """Share of resamples on the other side of zero, two-sided."""
    matched_pairs_p: float | None
    """Two-sided, from the mean of the differences per utterance (Gillick and Cox 1989)."""

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return self._asdict()


def compare(errors_a: Array, errors_b: Array, lengths: Array, resamples: int = 10_000) -> Difference:
    """Compare the errors (N,) that two systems make on N utterances of `lengths` (N,) reference tokens."""
    errors = np.stack([errors_a, errors_b], axis=1)
    both_lengths = np.stack([lengths, lengths], axis=1)
    total = max(float(lengths.sum()), 1.0)
    difference = float((errors_b - errors_a).sum()) / total
    if len(errors) < MIN_COMPARED:
        return Difference(difference, None, None, None)
    matched = _matched_pairs(errors_b - errors_a)
    rates = resampled_rates(errors, both_lengths, resamples)
    changes = rates[:, 1] - rates[:, 0]
    low, high = np.percentile(changes, [2.5, 97.5])
    fewer = min(int((changes <= 0).sum()), int((changes >= 0).sum()))
    p = min(1.0, 2 * (fewer + 1) / (resamples + 1))  # never 0: so many resamples can show no less
    return Difference(difference, [float(low), float(high)], p, matched)


def _matched_pairs(differences: Array) -> float:
    deviation = float(differences.std(ddof=1))
    if deviation == 0.0:
        return 1.0 if differences[0] == 0 else 0.0
    z = float(differences.mean()) / (deviation / math.sqrt(len(differences)))
    return math.erfc(abs(z) / math.sqrt(2))
