"""A GRU layer over rows of real frames."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hw_asr.models.packing import Packing


class FrameGRU(nn.GRU):
    """One layer of torch's GRU (arXiv:1406.1078, the reset gate applied after the product), on packed rows.

    Args:
        input_size: features of a row.
        hidden_size: H.
        bidirectional: whether a second recurrence runs from the end; its outputs follow the first one's.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__(input_size, hidden_size, bidirectional=bidirectional)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Map rows (N, input_size), packed as `packing` says, to (N, H) or (N, 2H); states start at zero."""
        if packing.num_rows == 0:
            return rows.new_zeros(0, self.hidden_size * (1 + self.bidirectional))
        packed, _ = nn.GRU.forward(self, PackedSequence(rows, packing.batch_sizes))
        output: Tensor = packed.data
        return output
