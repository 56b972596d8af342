"""A phase vocoder: longer or shorter speech at the same pitch, for whole batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hw_asr.features import length_mask
from hw_asr.runtime.transfers import send

WINDOW_SECONDS = 0.032
"""Rounded to a power of two samples: 512 at 16 kHz; more than two periods of the lowest voices."""
TURN = 1 << 32
"""A full turn: phases are summed as integers, so that sums do not depend on their order."""


def window_size(sample_rate: int) -> int:
    """Return the number of samples of the vocoder's window."""
    return max(32, 1 << round(math.log2(WINDOW_SECONDS * sample_rate)))


def stretch(samples: Tensor, rates: Tensor, new_lengths: Tensor, n_fft: int) -> Tensor:
    """Play row b of (B, T) samples `rates[b]` times as fast, without changing its pitch.

    Samples are zero beyond the rows' lengths; `rates` (B,), positive, and `new_lengths` (B,) are on the CPU. Returns
    (B, max(new_lengths)), zero beyond `new_lengths`. A row's result depends neither on the other rows nor on padding.

    Flanagan and Golden, "Phase Vocoder", 1966. Magnitudes are interpolated between two analysis frames; the phase
    advances by the difference between them, which needs no unwrapping since both hops are the same.
    """
    size = max(int(new_lengths.max()), 1)
    hop = n_fft // 4
    window = torch.hann_window(n_fft, device=samples.device, dtype=samples.dtype)
    silence = torch.nn.functional.pad(samples, (0, n_fft + hop))
    frames = torch.stft(silence, n_fft, hop, window=window, pad_mode="constant", return_complex=True).transpose(1, 2)
    magnitude, phase = frames.abs(), frames.angle()
    advance = phase.diff(dim=1)

    num_frames = (size + n_fft) // hop + 2
    speed = send(rates.double(), samples.device)[:, None]
    position = torch.arange(num_frames, device=samples.device, dtype=torch.float64) * speed
    index = position.long().clamp(max=advance.shape[1] - 1)
    weight = (position - index).clamp(max=1.0)[..., None].to(samples.dtype)
    stretched = torch.lerp(_frames_at(magnitude, index), _frames_at(magnitude, index + 1), weight)
    turns = torch.cat([phase[:, :1], _frames_at(advance, index[:, :-1])], dim=1).double().mul_(TURN / (2 * math.pi))
    turned = turns.round_().long().cumsum(dim=1).bitwise_and_(TURN - 1).double().mul_(2 * math.pi / TURN)
    spectrum = torch.polar(stretched, turned.to(samples.dtype))
    result = _overlap_added(torch.fft.irfft(spectrum, n=n_fft), window, size)
    return result * length_mask(new_lengths, size, samples.device)


def _overlap_added(frames: Tensor, window: Tensor, size: int) -> Tensor:
    """Return the (B, size) samples of centred frames (B, N, n_fft), whose hop is a quarter of the window.

    This is torch.istft without its check of the window, for which it waits for the device.
    """
    num_rows, num_frames, n_fft = frames.shape
    quarters = (frames * window).view(num_rows, num_frames, 4, n_fft // 4)
    envelope = window.square().view(1, 1, 4, n_fft // 4).expand(1, num_frames, 4, n_fft // 4)
    start = n_fft // 2
    samples = _summed(quarters)[:, start : start + size]
    return samples / _summed(envelope)[:, start : start + size]


def _summed(quarters: Tensor) -> Tensor:
    """Overlap and add frames in quarters (B, N, 4, Q), with a hop of one quarter; return (B, (N + 3) * Q)."""
    num_rows, num_frames, _, quarter = quarters.shape
    result = quarters.new_zeros(num_rows, num_frames + 3, quarter)
    for number in range(4):
        result[:, number : number + num_frames] += quarters[:, :, number]
    return result.flatten(1)


def _frames_at(frames: Tensor, index: Tensor) -> Tensor:
    """Pick frames (B, N, F) of (B, T, F) by their indices (B, N)."""
    num_rows, num_frames, num_bins = frames.shape
    flat = index + num_frames * torch.arange(num_rows, device=index.device)[:, None]
    return frames.reshape(-1, num_bins).index_select(0, flat.flatten()).view(num_rows, -1, num_bins)
