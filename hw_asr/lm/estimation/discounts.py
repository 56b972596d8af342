"""The three discounts of modified Kneser-Ney, from counts of counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw_asr.lm.estimation.counts import NgramError
from hw_asr.lm.estimation.sorting import Array

FALLBACK = (0.5, 1.0, 1.5)
"""What KenLM's lmplz takes with --discount_fallback."""


def estimate_discounts(
    counts_of_counts: Sequence[int], order: int, fallback: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Return what is taken off adjusted counts of 1, 2 and 3 or more (Chen and Goodman 1998, equation 26).

    `counts_of_counts[c]` says how many n-grams of this order have adjusted count c, for c = 1 .. 4. Raises NgramError
    where the text is too small or too regular for an estimate and there is no `fallback`.
    """
    fault = _fault(counts_of_counts, order)
    if fault is None:
        _, once, twice, *_ = counts_of_counts
        ratio = once / (once + 2 * twice)
        first, second, third = (
            count - (count + 1) * ratio * counts_of_counts[count + 1] / counts_of_counts[count] for count in (1, 2, 3)
        )
        fault = next(
            (
                f"the {order}-gram discount for adjusted count {count} comes out as {discount:.3g}, not in [0, {count}]"
                for count, discount in enumerate((first, second, third), start=1)
                if not 0 <= discount <= count
            ),
            None,
        )
        if fault is None:
            return first, second, third
    if fallback is None:
        raise NgramError(
            f"cannot estimate Kneser-Ney discounts: {fault}. Is the text small, artificial, or given twice? "
            f"Give more text, or fixed discounts with --discount-fallback (as lmplz: {' '.join(map(str, FALLBACK))})"
        )
    first, second, third = fallback
    return first, second, third


def _fault(counts_of_counts: Sequence[int], order: int) -> str | None:
    for count in (1, 2, 3):
        if counts_of_counts[count] == 0:
            return f"no {order}-gram has adjusted count {count}"
    return None


def discount_of(counts: Array, discounts: Sequence[float]) -> Array:
    """Return the discount of each adjusted count; a count of 0 has none."""
    values: Array = np.array([0.0, *discounts])[np.minimum(counts, 3)]
    return values
