"""The phase vocoder: longer or shorter speech at the same pitch, for whole batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hw_asr.features import length_mask

WINDOW_SECONDS = 0.032
"""Rounded to a power of two samples: 512 at 16 kHz; more than two periods of the lowest voices."""


def window_size(sample_rate: int) -> int:
    """Return the number of samples of the vocoder's window."""
    return max(32, 1 << round(math.log2(WINDOW_SECONDS * sample_rate)))


def stretch(samples: Tensor, rates: Tensor, new_lengths: Tensor, n_fft: int) -> Tensor:
    """Play row b of (B, T) samples `rates[b]` times as fast, without changing its pitch.

    Samples are zero beyond the rows' lengths; `rates` (B,) are positive; returns (B, max(new_lengths)), zero beyond
    `new_lengths` (B,). A row's result depends neither on the other rows nor on padding.

    Flanagan and Golden, "Phase Vocoder", 1966. Magnitudes are interpolated between two analysis frames; the phase
    turns on by what it turned between them, which needs no unwrapping since both hops are the same.
    """
    size = max(int(new_lengths.max()), 1)
    hop = n_fft // 4
    window = torch.hann_window(n_fft, device=samples.device, dtype=samples.dtype)
    silence = torch.nn.functional.pad(samples, (0, n_fft + hop))
    frames = torch.stft(silence, n_fft, hop, window=window, pad_mode="constant", return_complex=True).transpose(1, 2)
    magnitude, phase = frames.abs(), frames.angle()
    turn = phase.diff(dim=1)

    num_frames = (size + n_fft) // hop + 2
    position = torch.arange(num_frames, device=samples.device, dtype=torch.float64) * rates.double()[:, None]
    index = position.long().clamp(max=turn.shape[1] - 1)
    weight = (position - index).clamp(max=1.0)[..., None].to(samples.dtype)
    stretched = torch.lerp(_frames_at(magnitude, index), _frames_at(magnitude, index + 1), weight)
    turned = _frames_at(turn, index).cumsum(dim=1, dtype=torch.float64)
    turned = torch.cat([phase[:, :1].double(), phase[:, :1] + turned[:, :-1]], dim=1)
    turned = turned.remainder(2 * math.pi).to(samples.dtype)
    result = torch.istft(torch.polar(stretched, turned).transpose(1, 2), n_fft, hop, window=window, length=size)
    return result * length_mask(new_lengths, size)


def _frames_at(frames: Tensor, index: Tensor) -> Tensor:
    """Pick frames (B, N, F) of (B, T, F) by their indices (B, N)."""
    num_rows, num_frames, num_bins = frames.shape
    flat = index + num_frames * torch.arange(num_rows, device=index.device)[:, None]
    return frames.reshape(-1, num_bins).index_select(0, flat.flatten()).view(num_rows, -1, num_bins)
