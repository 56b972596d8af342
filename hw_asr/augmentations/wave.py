"""Augmentations of waveforms: loudness, pitch, duration and speed."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from hw_asr.augmentations.draws import check_probability, check_range, draw_rows, draw_uniform
from hw_asr.augmentations.resampling import resample
from hw_asr.augmentations.rows import replace_rows
from hw_asr.augmentations.vocoder import stretch, window_size
from hw_asr.config.registry import WAVE_AUGMENTATIONS

MAX_DENOMINATOR = 100
"""Of the ratios that speech is resampled by; pitches come within a tenth of a semitone of what is drawn."""


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
        return samples * factors.to(samples, non_blocking=True)[:, None], lengths


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
        rates = draw_uniform(*self._rates, len(samples), generator)[rows].to(samples.device)
        if len(rows) == 0:
            return samples, lengths
        picked = rows.to(samples.device)
        old_lengths = lengths[picked]
        new_lengths = (old_lengths / rates.double()).round().long().clamp(min=1).minimum(old_lengths * 10)
        stretched = stretch(samples[picked], rates, new_lengths, self._n_fft)
        return replace_rows(samples, lengths, rows, stretched, new_lengths)


@WAVE_AUGMENTATIONS.register()
class PitchShift:
    """Raises or lowers the pitch, formants included, by a number of semitones; the duration stays.

    The utterance is stretched by the ratio of the frequencies and then played faster by it.
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
        semitones = draw_uniform(*self._semitones, len(samples), generator)
        drawn = {row: _frequency_ratio(float(semitones[row])) for row in rows.tolist()}
        ratios = {row: ratio for row, ratio in drawn.items() if ratio != 1}
        if not ratios:
            return samples, lengths
        picked = torch.tensor(list(ratios), device=samples.device)
        rates = torch.tensor([1 / ratio for ratio in ratios.values()], dtype=torch.float64, device=samples.device)
        stretched = stretch(samples[picked], rates, (lengths[picked] / rates).ceil().long(), self._n_fft)
        result = samples.clone()
        old_lengths = lengths.tolist()
        for (row, ratio), longer in zip(ratios.items(), stretched, strict=True):
            length = old_lengths[row]
            shifted = resample(longer[: -int(-length * ratio // 1)], 1 / ratio)[:length]
            result[row, : len(shifted)] = shifted
            result[row, len(shifted) :] = 0.0
        return result, lengths


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


def _frequency_ratio(semitones: float) -> Fraction:
    return Fraction(2 ** (semitones / 12)).limit_denominator(MAX_DENOMINATOR)
