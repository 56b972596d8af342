"""Reverberation of waveforms by impulse responses of rooms, recorded or synthetic."""

from __future__ import annotations

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
from hw_asr.augmentations.resampling import smooth_number_from
from hw_asr.augmentations.rows import ratio_or_zero, rms
from hw_asr.config.registry import WAVE_AUGMENTATIONS
from hw_asr.features import length_mask
from hw_asr.runtime.transfers import send

PREDELAY_SECONDS = 0.0025
"""Between the direct sound and the first reflection."""
MAX_RESPONSE_SECONDS = 2.0


@WAVE_AUGMENTATIONS.register()
class RoomImpulseResponse:
    """Adds the reverberation of a room; length, loudness and the time of the direct sound do not change.

    Without `ir_dir` the response is synthetic: a direct sound, then white noise that decays by 60 dB in a reverberation
    time drawn between `min_rt60` and `max_rt60` seconds (Polack's model), softer than the direct sound by a number of
    decibels drawn between `min_drr_in_db` and `max_drr_in_db`. With it, a random recording under `ir_dir` is taken,
    from its loudest sample on, at most 2 s of it.
    """

    def __init__(
        self,
        p: float = 0.5,
        ir_dir: Path | None = None,
        min_rt60: float = 0.1,
        max_rt60: float = 0.6,
        min_drr_in_db: float = 0.0,
        max_drr_in_db: float = 15.0,
        sample_rate: int = 16_000,
    ) -> None:
        check_probability("p", p)
        check_range("rt60", min_rt60, max_rt60, 0.01, MAX_RESPONSE_SECONDS)
        check_range("drr_in_db", min_drr_in_db, max_drr_in_db, -30, 60)
        self.p = p
        self._rt60s = (min_rt60, max_rt60)
        self._drrs = (min_drr_in_db, max_drr_in_db)
        self._sample_rate = sample_rate
        self._recordings = None if ir_dir is None else Recordings("ir_dir", ir_dir, sample_rate)

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Reverberate the chosen rows of (B, T) samples."""
        rows = draw_rows(self.p, len(samples), generator)
        rt60s = draw_uniform(*self._rt60s, len(samples), generator).tolist()
        drrs = draw_uniform(*self._drrs, len(samples), generator).tolist()
        seeds = draw_seeds(len(samples), generator)
        if len(rows) == 0:
            return samples, lengths
        responses = [self._response(rt60s[row], drrs[row], seeds[row], samples.device) for row in rows.tolist()]
        picked = send(rows, samples.device)
        dry, dry_lengths = samples[picked], lengths[rows]
        wet = convolve(dry, torch.nn.utils.rnn.pad_sequence(responses, batch_first=True).to(samples))
        wet = wet * length_mask(dry_lengths, wet.shape[1], wet.device)
        ratio = ratio_or_zero(rms(dry, dry_lengths), rms(wet, dry_lengths))[:, None]
        wet = torch.where(ratio > 0, wet * ratio, dry)  # a silent response would silence the row
        return samples.index_copy(0, picked, wet), lengths

    def _response(self, rt60: float, drr: float, seed: int, device: torch.device) -> Tensor:
        if self._recordings is None:
            return synthetic_response(rt60, drr, seed, self._sample_rate, device)
        position = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        recording = self._recordings.pick(float(position))
        begin = int(recording.abs().argmax())
        return send(recording[begin : begin + int(MAX_RESPONSE_SECONDS * self._sample_rate)], device)


def synthetic_response(rt60: float, drr: float, seed: int, sample_rate: int, device: torch.device) -> Tensor:
    """Return a response of `rt60` seconds whose first sample, the direct sound, is 1; the rest has -`drr` dB of it."""
    time = torch.arange(int(rt60 * sample_rate) + 2, device=device) / sample_rate
    tail = white_noise(len(time), seed, device) * 10 ** (-3 * time / rt60) * (time >= PREDELAY_SECONDS)
    norm = tail.norm()
    tail = tail * ratio_or_zero(torch.full_like(norm, 10 ** (-drr / 20)), norm)
    tail[0] = 1.0
    return tail


def convolve(samples: Tensor, responses: Tensor) -> Tensor:
    """Filter each row of (B, T) samples with its response (B, L); return the first T samples."""
    size = smooth_number_from(samples.shape[1] + responses.shape[1] - 1)
    spectrum = torch.fft.rfft(samples, n=size) * torch.fft.rfft(responses, n=size)
    filtered: Tensor = torch.fft.irfft(spectrum, n=size)
    return filtered[:, : samples.shape[1]]
