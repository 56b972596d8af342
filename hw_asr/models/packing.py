"""Which cells of a padded batch are real frames; conversion between padded tensors and rows of real frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hw_asr.runtime.transfers import send


class Packing:
    """The real frames of a batch as rows: time-major, the longest utterance first (torch's PackedSequence order).

    Layers that work on such rows see no padding. N is the number of real frames, B the
    number of utterances, T the padded number of frames, n(t) the number of utterances longer than t.

    Args:
        lengths: (B,) real frames of each utterance, on the CPU; zeros are allowed.
        num_frames: T; at least the longest length.
        device: where the tensors to be packed are.
    """

    def __init__(self, lengths: Tensor, num_frames: int, device: torch.device) -> None:
        lengths = lengths.long()
        longest, order = lengths.sort(descending=True, stable=True)
        steps = torch.arange(int(longest[0]) if len(longest) else 0)
        present = longest > steps[:, None]
        time, place = present.nonzero(as_tuple=True)
        self.batch_sizes = present.sum(dim=1)
        """(T,) n(t), on the CPU."""
        self._shape = (len(lengths), num_frames)
        self._lengths, self._device = lengths, device
        self._cells = send(order[place] * num_frames + time, device)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self._cells)

    @property
    def num_frames(self) -> int:
        """T."""
        return self._shape[1]

    @staticmethod
    def inside(lengths: Tensor, num_frames: int, device: torch.device) -> Tensor:
        """Return (B, T) booleans on `device`, true at the real frames; the lengths (B,) are on the CPU."""
        return send(lengths[:, None] > torch.arange(num_frames), device)

    def keys_mask(self) -> Tensor:
        """Return (B, 1, 1, T) booleans, true at the frames that attention may read.

        An utterance without frames may read all of them, so that its softmax is defined; nothing of it is packed.
        """
        readable = self._lengths.masked_fill(self._lengths == 0, self.num_frames)
        return self.inside(readable, self.num_frames, self._device)[:, None, None, :]

    def pack(self, padded: Tensor) -> Tensor:
        """Gather (B, T, ...) into rows (N, ...)."""
        rows: Tensor = _Gather.apply(padded.flatten(0, 1), self._cells)  # type: ignore[no-untyped-call]
        return rows

    def unpack(self, rows: Tensor) -> Tensor:
        """Scatter rows (N, ...) into (B, T, ...); cells without a real frame become zero."""
        cells = rows.new_zeros(self._shape[0] * self._shape[1], *rows.shape[1:])
        return cells.index_copy(0, self._cells, rows).view(*self._shape, *rows.shape[1:])


class _Gather(torch.autograd.Function):
    """Rows by distinct indices. The gradient copies them back, where torch, which expects repetitions, adds them up."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.size = len(cells)
        return cells.index_select(0, indices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, indices, grad), None
