"""Augmentations of waveforms: loudness, pitch, duration and speed."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.augmentations.draws import check_probability, check_range, draw_rows, draw_uniform
from hw_asr.augmentations.resampling import MARGIN, coarse_size, nearest_smooth, resample, resample_to
from hw_asr.augmentations.rows import replace_rows
from hw_asr.augmentations.vocoder import stretch, window_size
from hw_asr.config.registry import WAVE_AUGMENTATIONS
from hw_asr.runtime.transfers import send

MAX_DENOMINATOR = 100
"""Largest denominator of the ratios of `SpeedPerturbation`."""


@WAVE_AUGMENTATIONS.register()
class Gain:
    """Makes an utterance louder or softer by a number of decibels; nothing is clipped."""

    def __init__(self, p: float = 0.5, min_gain_in_db: float = -18.0, max_gain_in_db: float = 6.0) -> None:
        check_probability("p", p)
        check_range("gain_in_db", min_gain_in_db, max_gain_in_db, -120, 120)
        self.p = p
        self._gains = (min_gain_in_db, max_gain_in_db)

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Scale the chosen rows of (B, T) samples."""
        rows = draw_rows(self.p, len(samples), generator)
        gains = draw_uniform(*self._gains, len(samples), generator)
        factors = torch.ones(len(samples))
        factors[rows] = 10 ** (gains[rows] / 20)
        return samples * send(factors, samples.device).to(samples.dtype)[:, None], lengths


@WAVE_AUGMENTATIONS.register()
class TimeStretching:
    """Makes an utterance `rate` times as fast at the same pitch: its length is divided by the rate."""

    def __init__(
        self, p: float = 0.5, min_rate: float = 0.8, max_rate: float = 1.25, sample_rate: int = 16_000
    ) -> None:
        check_probability("p", p)
        check_range("rate", min_rate, max_rate, 0.1, 10)
        self.p = p
        self._rates = (min_rate, max_rate)
        self._n_fft = window_size(sample_rate)

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Stretch the chosen rows of (B, T) samples; T changes with the longest."""
        rows = draw_rows(self.p, len(samples), generator)
        rates = draw_uniform(*self._rates, len(samples), generator)[rows]
        if len(rows) == 0:
            return samples, lengths
        old_lengths = lengths[rows]
        new_lengths = (old_lengths / rates.double()).round().long().clamp(min=1).minimum(old_lengths * 10)
        stretched = stretch(samples[send(rows, samples.device)], rates, new_lengths, self._n_fft)
        return replace_rows(samples, lengths, rows, stretched, new_lengths)


@WAVE_AUGMENTATIONS.register()
class PitchShift:
    """Raises or lowers the pitch, formants included, by a number of semitones; the duration does not change.

    The utterance is stretched by the ratio of the frequencies and then resampled by it. Pitches are within a tenth of a
    semitone of the drawn value, because only sizes with fast Fourier transforms are used.
    """

    def __init__(
        self,
        p: float = 0.5,
        min_transpose_semitones: float = -4.0,
        max_transpose_semitones: float = 4.0,
        sample_rate: int = 16_000,
    ) -> None:
        check_probability("p", p)
        check_range("transpose_semitones", min_transpose_semitones, max_transpose_semitones, -24, 24)
        self.p = p
        self._semitones = (min_transpose_semitones, max_transpose_semitones)
        self._n_fft = window_size(sample_rate)

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shift the chosen rows of (B, T) samples."""
        rows = draw_rows(self.p, len(samples), generator)
        semitones = draw_uniform(*self._semitones, len(samples), generator).tolist()
        plans = [_plan(row, int(lengths[row]), semitones[row]) for row in rows.tolist()]
        plans = [plan for plan in plans if plan.size != plan.new_size]
        if not plans:
            return samples, lengths
        picked = send(torch.tensor([plan.row for plan in plans]), samples.device)
        rates = torch.tensor([plan.new_size / plan.size for plan in plans], dtype=torch.float64)
        longer_lengths = torch.tensor([plan.longer_length for plan in plans])
        stretched = stretch(samples[picked], rates, longer_lengths, self._n_fft)
        result = samples.clone()
        for plan, longer in zip(plans, stretched, strict=True):
            length = int(lengths[plan.row])
            shifted = resample_to(longer[: plan.longer_length], plan.size, plan.new_size, length)
            result[plan.row, : len(shifted)] = shifted
            result[plan.row, len(shifted) :] = 0.0
        return result, lengths


class _Plan(NamedTuple):
    """How the pitch of a row is shifted: stretched to `longer_length`, then resampled from `size` to `new_size`.

    Both sizes include trailing zeros; the pitch changes by the ratio size / new_size.
    """

    row: int
    longer_length: int
    size: int
    new_size: int


def _plan(row: int, length: int, semitones: float) -> _Plan:
    """Choose the sizes of the Fourier transforms; there are a few hundred over all lengths and semitones."""
    ratio = 2 ** (semitones / 12)
    size = coarse_size(math.ceil(length * ratio * 1.01) + MARGIN)
    new_size = nearest_smooth(size / ratio)
    return _Plan(row, -(-length * size // new_size), size, new_size)


@WAVE_AUGMENTATIONS.register()
class SpeedPerturbation:
    """Plays an utterance `factor` times as fast, which changes duration and pitch together (Ko et al. 2015)."""

    def __init__(self, p: float = 1.0, factors: tuple[float, ...] = (0.9, 1.0, 1.1)) -> None:
        check_probability("p", p)
        if not factors or not all(0.1 <= factor <= 10 for factor in factors):
            raise ValueError(f"factors: expected one or more numbers between 0.1 and 10, got {list(factors)}")
        self.p = p
        self._ratios = [1 / Fraction(factor).limit_denominator(MAX_DENOMINATOR) for factor in factors]

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Resample the chosen rows of (B, T) samples; T changes with the longest."""
        rows = draw_rows(self.p, len(samples), generator)
        choices = torch.randint(len(self._ratios), (len(samples),), generator=generator).tolist()
        changed = [row for row in rows.tolist() if self._ratios[choices[row]] != 1]
        if not changed:
            return samples, lengths
        old_lengths = lengths.tolist()
        resampled = [resample(samples[row, : old_lengths[row]], self._ratios[choices[row]]) for row in changed]
        return replace_rows(
            samples,
            lengths,
            torch.tensor(changed),
            torch.nn.utils.rnn.pad_sequence(resampled, batch_first=True),
            torch.tensor([len(row) for row in resampled]),
        )
