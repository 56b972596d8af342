"""The CTC objective (Graves et al. 2006), one value per utterance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from hw_asr.config.registry import LOSSES


class LossValues(NamedTuple):
    """`values` (B,): the loss of each utterance; `infeasible` (B,): true where no CTC path fits, value 0."""

    values: Tensor
    infeasible: Tensor


@LOSSES.register()
class CTCLoss(nn.Module):
    """Negative log-probability of the target, divided by the number of its characters.

    Their mean over utterances is what torch.nn.CTCLoss(reduction="mean") returns. An utterance whose target has more
    characters (and repeats) than there are frames has no alignment: it counts 0 and is reported.
    """

    def __init__(self, normalize_by_length: bool = True) -> None:
        super().__init__()
        self.normalize_by_length = normalize_by_length

    def forward(self, log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> LossValues:
        """Map `log_probs` (B, T, V), `lengths` (B,), `targets` (B, L), `target_lengths` (B,) to values (B,)."""
        values = ctc_loss(
            log_probs.float().transpose(0, 1), targets, lengths, target_lengths, blank=0, reduction="none",
            zero_infinity=True,
        )  # fmt: skip
        infeasible = self._infeasible(lengths, targets, target_lengths)
        if self.normalize_by_length:
            values = values / target_lengths.clamp(min=1)
        return LossValues(values.masked_fill(infeasible, 0.0), infeasible)

    @staticmethod
    def _infeasible(lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        second = torch.arange(targets.shape[1], device=targets.device)[1:]
        repeats = ((targets[:, 1:] == targets[:, :-1]) & (second < target_lengths[:, None])).sum(dim=1)
        return target_lengths + repeats > lengths
