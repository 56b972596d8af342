"""Rows of padded batches: their energy, and replacing some of them; lengths are on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.features import length_mask
from hw_asr.runtime.transfers import send


def rms(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return the root of the mean square of each row of (B, T) samples over its length, (B,); 0 for an empty row."""
    norm = torch.linalg.vector_norm(
        samples * length_mask(lengths, samples.shape[1], samples.device), dim=1, dtype=torch.float64
    )
    root: Tensor = norm / send(lengths.clamp(min=1).sqrt(), samples.device)
    return root.to(samples.dtype)


def ratio_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide elementwise; 0 where the denominator is 0 or the quotient is not finite."""
    return torch.nan_to_num(numerator / denominator, nan=0.0, posinf=0.0, neginf=0.0)


def replace_rows(
    samples: Tensor, lengths: Tensor, rows: Tensor, changed: Tensor, changed_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace `rows` (R,) of samples (B, T) by `changed` (R, T') of `changed_lengths` (R,).

    The result is as wide as its longest row, and zero beyond the lengths. `rows` and all lengths are on the CPU.
    """
    new_lengths = lengths.index_copy(0, rows, changed_lengths.to(lengths))
    size = max(int(new_lengths.max()), 1)
    picked = send(rows, samples.device)
    result = samples.new_zeros(len(samples), size)
    kept = min(size, samples.shape[1])
    result[:, :kept] = samples[:, :kept]
    result.index_fill_(0, picked, 0.0)
    kept = min(size, changed.shape[1])
    result[picked, :kept] = changed[:, :kept]
    return result * length_mask(new_lengths, size, samples.device), new_lengths
