"""Pauses around an utterance, with background noise and clicks in them."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.augmentations.draws import (
    check_probability,
    check_range,
    draw_rows,
    draw_seeds,
    draw_uniform,
    white_noise,
)
from hw_asr.augmentations.rows import replace_rows, rms
from hw_asr.config.registry import WAVE_AUGMENTATIONS
from hw_asr.runtime.transfers import send

_DECAY_SECONDS = (0.001, 0.1)
"""Shortest and longest time in which a click falls to 1/e."""
_TONE_HZ = (200, 4000)
_CLICK_DB = (0, 18)
"""Peak of a click relative to the root mean square of the utterance; the peaks of speech reach about 15 dB."""


@WAVE_AUGMENTATIONS.register()
class Pauses:
    """Adds a pause before and a pause after an utterance; its text stays the same.

    Each pause lasts `min_seconds` to `max_seconds`. Pauses and utterance get white noise; its level relative to the
    utterance is drawn between `min_noise_in_db` and `max_noise_in_db`. Each pause has `clicks_per_second` clicks on
    average: tones or noise that decay within 1 to 100 ms, as loud as speech. A network trained with them does not
    transcribe clicks as words. Silence stays silent.
    """

    def __init__(
        self,
        p: float = 0.5,
        min_seconds: float = 0.0,
        max_seconds: float = 1.0,
        min_noise_in_db: float = -60.0,
        max_noise_in_db: float = -30.0,
        clicks_per_second: float = 1.0,
        sample_rate: int = 16_000,
    ) -> None:
        check_probability("p", p)
        check_range("seconds", min_seconds, max_seconds, 0, 60)
        check_range("noise_in_db", min_noise_in_db, max_noise_in_db, -120, 0)
        if not 0 <= clicks_per_second <= 100:
            raise ValueError(f"clicks_per_second: expected a number between 0 and 100, got {clicks_per_second}")
        self.p = p
        self._seconds, self._levels = (min_seconds, max_seconds), (min_noise_in_db, max_noise_in_db)
        self._clicks_per_second, self._sample_rate = clicks_per_second, sample_rate

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add pauses to the chosen rows of (B, T) samples; T changes with the longest."""
        rows = draw_rows(self.p, len(samples), generator)
        before, after = (
            (draw_uniform(*self._seconds, len(samples), generator) * self._sample_rate).long()[rows] for _ in range(2)
        )
        levels = 10 ** (draw_uniform(*self._levels, len(samples), generator)[rows] / 20)
        seeds = draw_seeds(len(samples), generator)
        if len(rows) == 0:
            return samples, lengths
        old_lengths = lengths[rows]
        new_lengths = torch.where(old_lengths > 0, before + old_lengths + after, 0)
        picked = send(rows, samples.device)
        speech = samples[picked]
        changed = samples.new_zeros(len(rows), max(int(new_lengths.max()), 1))
        for index, (row, size) in enumerate(zip(rows.tolist(), new_lengths.tolist(), strict=True)):
            changed[index, :size] = float(levels[index]) * white_noise(size, seeds[row], samples.device)
            draws = torch.Generator().manual_seed(seeds[row])
            start = int(before[index])
            for pause in (changed[index, : min(start, size)], changed[index, start + int(old_lengths[index]) : size]):
                self._add_clicks(pause, draws)
        changed *= rms(speech, old_lengths)[:, None]
        for index, (start, length) in enumerate(zip(before.tolist(), old_lengths.tolist(), strict=True)):
            changed[index, start : start + length] += speech[index, :length]
        return replace_rows(samples, lengths, rows, changed, new_lengths)

    def _add_clicks(self, pause: Tensor, generator: torch.Generator) -> None:
        """Add clicks to a pause (T,) in place, at random places."""
        rate = torch.tensor(self._clicks_per_second * len(pause) / self._sample_rate)
        for _ in range(int(torch.poisson(rate, generator=generator))):
            place, decay, pitch, level, kind = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
            start = int(place * len(pause))
            seconds = _DECAY_SECONDS[0] * (_DECAY_SECONDS[1] / _DECAY_SECONDS[0]) ** decay
            size = min(len(pause) - start, round(6 * seconds * self._sample_rate))
            time = torch.arange(size, device=pause.device) / self._sample_rate
            if kind < 0.5:
                wave = white_noise(size, int(place * 2**62), pause.device) / 3
            else:
                wave = torch.sin(2 * torch.pi * _TONE_HZ[0] * (_TONE_HZ[1] / _TONE_HZ[0]) ** pitch * time)
            amplitude = 10 ** ((_CLICK_DB[0] + (_CLICK_DB[1] - _CLICK_DB[0]) * level) / 20)
            pause[start : start + size] += amplitude * wave * torch.exp(-time / seconds)
