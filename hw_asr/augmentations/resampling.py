"""Resampling by a ratio of small whole numbers, band limited, in one pair of Fourier transforms."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

MARGIN = 1024
"""Zeros after the samples, so that the end does not ring into the beginning."""


def resample(samples: Tensor, ratio: Fraction) -> Tensor:
    """Return (T * ratio,) samples, rounded, of the same signal as (T,) samples.

    The spectrum is cut off, or filled up with zeros, at the lower of the two Nyquist frequencies: nothing aliases.
    Numerator and denominator should be small, for then the transforms' sizes have small factors.
    """
    blocks = smooth_number_from((len(samples) + MARGIN) // ratio.denominator + 1)
    spectrum = torch.fft.rfft(samples, n=blocks * ratio.denominator)
    result: Tensor = torch.fft.irfft(spectrum, n=blocks * ratio.numerator)
    return result[: round(len(samples) * ratio)] * float(ratio)


def smooth_number_from(lowest: int) -> int:
    """Return the least number from `lowest` on without a prime factor above 5: Fourier transforms like those."""
    number = max(lowest, 1)
    while not _is_smooth(number):
        number += 1
    return number


def _is_smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1
