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


@WAVE_AUGMENTATIONS.register()
class RandomNoise:
    """Adds noise whose loudness goes by the utterance's own: silence stays silent, nothing is clipped.

    The signal-to-noise ratio, of mean powers over the whole utterance, is drawn between `min_snr_in_db` and
    `max_snr_in_db`; or `amplitude` is the noise's root mean square as a share of the signal's (0.1 is 20 dB).
    The noise is white, or a random stretch of a random recording under `noise_dir`, repeated where it is too short.
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
                raise ValueError(f"amplitude: expected a share of the signal's, above 0, got {amplitude}")
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
        picked = rows.to(samples.device)
        noise = samples.new_zeros(len(rows), samples.shape[1])
        for index, (row, length) in enumerate(zip(rows.tolist(), lengths[picked].tolist(), strict=True)):
            noise[index, :length] = self._noise(length, seeds[row], samples.device)
        wanted = shares[rows].to(samples) * rms(samples[picked], lengths[picked])
        noise *= ratio_or_zero(wanted, rms(noise, lengths[picked]))[:, None]
        return samples.index_add(0, picked, noise), lengths

    def _noise(self, size: int, seed: int, device: torch.device) -> Tensor:
        if self._recordings is None:
            return white_noise(size, seed, device)
        position, start = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        recording = self._recordings.pick(position)
        if len(recording) >= size:
            start = int(start * (len(recording) - size + 1))
            return recording[start : start + size].to(device)
        shifted = recording.roll(-int(start * len(recording)))
        return shifted.repeat(size // len(shifted) + 1)[:size].to(device)
