"""Noise added to waveforms, white or recorded."""

from __future__ import annotations

import math
from pathlib import Path

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
from hw_asr.augmentations.recordings import Recordings
from hw_asr.augmentations.rows import ratio_or_zero, rms
from hw_asr.config.registry import WAVE_AUGMENTATIONS
from hw_asr.runtime.transfers import send


@WAVE_AUGMENTATIONS.register()
class RandomNoise:
    """Adds noise relative to the loudness of the utterance: silence stays silent, nothing is clipped.

    The signal-to-noise ratio, of mean powers over the whole utterance, is drawn between `min_snr_in_db` and
    `max_snr_in_db`; or `amplitude` is the ratio of the root mean squares of noise and signal (0.1 is 20 dB).
    The noise is white, or a random section of a random recording under `noise_dir`, repeated if it is too short.
    """

    def __init__(
        self,
        p: float = 0.5,
        amplitude: float | None = None,
        min_snr_in_db: float = 10.0,
        max_snr_in_db: float = 30.0,
        noise_dir: Path | None = None,
        sample_rate: int = 16_000,
    ) -> None:
        check_probability("p", p)
        check_range("snr_in_db", min_snr_in_db, max_snr_in_db, -60, 120)
        if amplitude is not None:
            if not 0 < amplitude <= 1000:
                raise ValueError(
                    f"amplitude: expected a ratio to the signal's amplitude, above 0 and at most 1000, got {amplitude}"
                )
            min_snr_in_db = max_snr_in_db = -20 * math.log10(amplitude)
        self.p = p
        self._snrs = (min_snr_in_db, max_snr_in_db)
        self._recordings = None if noise_dir is None else Recordings("noise_dir", noise_dir, sample_rate)

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise to the chosen rows of (B, T) samples."""
        rows = draw_rows(self.p, len(samples), generator)
        shares = 10 ** (-draw_uniform(*self._snrs, len(samples), generator) / 20)
        seeds = draw_seeds(len(samples), generator)
        if len(rows) == 0:
            return samples, lengths
        chosen_lengths, picked = lengths[rows], send(rows, samples.device)
        noise = samples.new_zeros(len(rows), samples.shape[1])
        for index, (row, length) in enumerate(zip(rows.tolist(), chosen_lengths.tolist(), strict=True)):
            noise[index, :length] = self._noise(length, seeds[row], samples.device)
        wanted = send(shares[rows], samples.device).to(samples.dtype) * rms(samples[picked], chosen_lengths)
        noise *= ratio_or_zero(wanted, rms(noise, chosen_lengths))[:, None]
        return samples.index_add(0, picked, noise), lengths

    def _noise(self, size: int, seed: int, device: torch.device) -> Tensor:
        if self._recordings is None:
            return white_noise(size, seed, device)
        position, start = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        recording = self._recordings.pick(position, start, size)
        if len(recording) >= size:
            start = int(start * (len(recording) - size + 1))
            return send(recording[start : start + size], device)
        shifted = recording.roll(-int(start * len(recording)))
        return send(shifted.repeat(size // len(shifted) + 1)[:size], device)
