"""Band-limited resampling by a ratio of small integers, with one pair of Fourier transforms."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

MARGIN = 1024
"""Zeros after the samples, so that the end does not wrap around to the beginning."""


def resample(samples: Tensor, ratio: Fraction) -> Tensor:
    """Return (T * ratio,) samples, rounded, of the same signal as (T,) samples.

    The spectrum is truncated, or zero-padded, at the lower of the two Nyquist frequencies, so nothing aliases.
    Numerator and denominator should be small, so that the sizes of the transforms have small factors.
    """
    blocks = smooth_number_from((len(samples) + MARGIN) // ratio.denominator + 1)
    spectrum = torch.fft.rfft(samples, n=blocks * ratio.denominator)
    result: Tensor = torch.fft.irfft(spectrum, n=blocks * ratio.numerator)
    return result[: round(len(samples) * ratio)] * float(ratio)


def resample_to(samples: Tensor, size: int, new_size: int, length: int) -> Tensor:
    """Return the first `length` of `new_size` samples of the same signal as (T,) samples, zeros up to `size` included.

    As in `resample`, nothing aliases.
    """
    spectrum = torch.fft.rfft(samples, n=size)
    result: Tensor = torch.fft.irfft(spectrum, n=new_size)
    return result[:length] * (new_size / size)


def coarse_size(lowest: int) -> int:
    """Return the least of 8, 9, 10, 12, 14 and 15 times a power of two from `lowest` on.

    cuFFT makes a plan for every new size, so a few sizes are better than exact ones.
    """
    power = 1 << max(1, (lowest - 1).bit_length() - 4)
    return next(power * factor for factor in (8, 9, 10, 12, 14, 15, 16) if power * factor >= lowest)


def nearest_smooth(size: float) -> int:
    """Return the even number nearest to `size` without a prime factor above 7."""
    nearest = 2 * max(1, round(size / 2))
    step = 0
    while not is_smooth(nearest + step, (2, 3, 5, 7)):
        step = -step if step > 0 else 2 - step
    return nearest + step


def smooth_number_from(lowest: int) -> int:
    """Return the least number from `lowest` on without a prime factor above 5: quick to transform."""
    number = max(lowest, 1)
    while not is_smooth(number):
        number += 1
    return number


def is_smooth(number: int, primes: tuple[int, ...] = (2, 3, 5)) -> bool:
    """Return whether a number is a product of these primes."""
    if number < 1:
        return False
    for factor in primes:
        while number % factor == 0:
            number //= factor
    return number == 1
