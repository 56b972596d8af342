"""Random draws of augmentations for each utterance, and checks of their arguments."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_rows(p: float, num_rows: int, generator: torch.Generator) -> Tensor:
    """Choose each row with probability `p`; return the chosen indices, (R,) on the CPU."""
    return (torch.rand(num_rows, generator=generator) < p).nonzero().flatten()


def draw_uniform(low: float, high: float, num_rows: int, generator: torch.Generator) -> Tensor:
    """Draw one number in [low, high) for each row, (B,) on the CPU."""
    return low + (high - low) * torch.rand(num_rows, generator=generator)


def draw_seeds(num_rows: int, generator: torch.Generator) -> list[int]:
    """Draw a seed for each row, for noise generated on the device of the samples."""
    seeds: list[int] = torch.randint(2**62, (num_rows,), generator=generator).tolist()
    return seeds


def white_noise(size: int, seed: int, device: torch.device) -> Tensor:
    """Return (size,) normal noise on `device`, the same for the same seed."""
    return torch.randn(size, generator=torch.Generator(device).manual_seed(seed), device=device)


def check_probability(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability in [0, 1], got {value}")


def check_range(kind: str, low: float, high: float, lowest: float = -math.inf, highest: float = math.inf) -> None:
    """Raise ValueError unless min_`kind` and max_`kind` are in order, finite and within `lowest` and `highest`."""
    for name, value in ((f"min_{kind}", low), (f"max_{kind}", high)):
        if not (math.isfinite(value) and lowest <= value <= highest):
            raise ValueError(f"{name}: expected a number between {lowest:g} and {highest:g}, got {value}")
    if low > high:
        raise ValueError(f"min_{kind}: expected at most max_{kind}, {high}, got {low}")


def check_count(name: str, value: int, highest: int) -> None:
    """Raise ValueError unless `value` is between 0 and `highest`."""
    if not 0 <= value <= highest:
        raise ValueError(f"{name}: expected 0 to {highest}, got {value}")
