"""Rotary positions (arXiv:2104.09864): attention scores that depend on the distance of two frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Rotation(NamedTuple):
    """Cosine and sine (T, D/2) of the angle by which each pair of values is rotated at each frame."""

    cos: Tensor
    sin: Tensor

    def apply(self, heads: Tensor) -> Tensor:
        """Rotate queries or keys (B, H, T, D): value i is paired with value i + D/2."""
        first, second = heads.chunk(2, dim=-1)
        cos, sin = self.cos.to(heads.dtype), self.sin.to(heads.dtype)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class RotaryPositions(nn.Module):
    """Angles for heads of `size` values: frame t rotates pair i by t / base^(2i / size)."""

    def __init__(self, size: int, base: float = 10000.0) -> None:
        super().__init__()
        self.size, self.base = size, base

    def forward(self, num_frames: int, device: torch.device) -> Rotation:
        """Return the rotation of frames 0 to `num_frames` - 1, in float32."""
        exponents = torch.arange(0, self.size, 2, device=device, dtype=torch.float32) / self.size
        angles = torch.arange(num_frames, device=device, dtype=torch.float32)[:, None] * self.base**-exponents
        return Rotation(angles.cos(), angles.sin())
