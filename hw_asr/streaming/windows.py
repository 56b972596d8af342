"""Windows over a sequence that arrives in pieces."""

from __future__ import annotations

import torch
from torch import Tensor


class Windows:
    """Collects a sequence along its last dimension and returns the whole windows of `size`, one every `step`.

    `before` zeros precede the sequence and `after` zeros follow it, as in a padded convolution.
    """

    def __init__(self, size: int, step: int = 1, before: int = 0, after: int = 0) -> None:
        self._size, self._step, self._before, self._after = size, step, before, after
        self._held: Tensor | None = None
        self._skip = 0  # values before the next window that have not arrived yet

    def push(self, values: Tensor, is_last: bool = False) -> Tensor | None:
        """Add values (..., n); return the values that all new windows cover, None if there is no new window.

        With `is_last`, the sequence ends after these values.
        """
        if self._held is None:
            values = torch.nn.functional.pad(values, (self._before, 0))
            self._held = values[..., :0]
        if is_last:
            values = torch.nn.functional.pad(values, (0, self._after))
        dropped = min(self._skip, values.shape[-1])
        self._skip -= dropped
        held = torch.cat([self._held, values[..., dropped:]], dim=-1)
        count = (held.shape[-1] - self._size) // self._step + 1 if held.shape[-1] >= self._size else 0
        used = count * self._step
        self._skip += max(0, used - held.shape[-1])
        self._held = held[..., used:].clone()  # a view would keep all values in memory
        return held[..., : used - self._step + self._size] if count else None
