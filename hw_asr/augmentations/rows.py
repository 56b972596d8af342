"""Rows of padded batches: those an augmentation picks out, their energy, and how they are put back."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.features import length_mask


def rms(samples: Tensor, lengths: Tensor) -> Tensor:
    """Return the root of the mean square of each row of (B, T) samples over its length, (B,); 0 for an empty row."""
    norm = torch.linalg.vector_norm(samples * length_mask(lengths, samples.shape[1]), dim=1, dtype=torch.float64)
    root: Tensor = norm / lengths.clamp(min=1).sqrt()
    return root.to(samples.dtype)


def ratio_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide elementwise; 0 where the denominator is 0 or the quotient is beyond the numbers."""
    return torch.nan_to_num(numerator / denominator, nan=0.0, posinf=0.0, neginf=0.0)


def replace_rows(
    samples: Tensor, lengths: Tensor, rows: Tensor, changed: Tensor, changed_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Put `changed` (R, T') of `changed_lengths` (R,) in the place of `rows` (R,) of samples (B, T).

    The result is as wide as its longest row, and zero beyond the lengths.
    """
    rows = rows.to(samples.device)
    new_lengths = lengths.index_copy(0, rows, changed_lengths.to(lengths))
    size = max(int(new_lengths.max()), 1)
    result = samples.new_zeros(len(samples), size)
    kept = min(size, samples.shape[1])
    result[:, :kept] = samples[:, :kept]
    result.index_fill_(0, rows, 0.0)
    kept = min(size, changed.shape[1])
    result[rows, :kept] = changed[:, :kept]
    return result * length_mask(new_lengths, size), new_lengths
