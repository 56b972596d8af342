"""The CTC objective (Graves et al. 2006), one value per utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from hw_asr.config.registry import LOSSES
from hw_asr.runtime.transfers import send


class LossValues(NamedTuple):
    """`values` (B,): the loss of each utterance; `infeasible` (B,): true where no CTC path fits, value 0."""

    values: Tensor
    infeasible: Tensor


@LOSSES.register()
class CTCLoss(nn.Module):
    """Negative log-probability of the target, divided by the number of its characters.

    Their mean over utterances is what torch.nn.CTCLoss(reduction="mean") returns. An utterance whose target has more
    characters (and repeats) than there are frames has no alignment: it counts 0 and is reported.

    Args:
        normalize_by_length: divide by the number of characters.
        intermediate_weight: share of the mean loss of the model's intermediate layers (arXiv:2102.03216), where it has
            any; the output layer has the rest.
    """

    def __init__(self, normalize_by_length: bool = True, intermediate_weight: float = 0.3) -> None:
        super().__init__()
        if not 0 <= intermediate_weight < 1:
            raise ValueError(f"intermediate_weight: expected a number in [0, 1), got {intermediate_weight}")
        self.normalize_by_length = normalize_by_length
        self.intermediate_weight = intermediate_weight

    def forward(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        intermediate: Sequence[Tensor] = (),
    ) -> LossValues:
        """Map `log_probs` (B, T, V) and `targets` (B, L) to values (B,) on their device.

        `intermediate` are the log-probabilities (B, T, V) of inner layers. `lengths` (B,) and `target_lengths` (B,)
        are on the CPU, where torch's CTC reads them. If only deterministic algorithms are allowed, the loss of a GPU's
        log-probabilities is computed on the CPU: the CUDA kernel adds up its gradient in no fixed order.
        """
        device = log_probs.device
        if device.type != "cpu" and torch.are_deterministic_algorithms_enabled():
            inner = [layer.cpu() for layer in intermediate]
            values, infeasible = self(log_probs.cpu(), lengths, targets.cpu(), target_lengths, inner)
            return LossValues(values.to(device), infeasible.to(device))
        layers = [
            ctc_loss(
                layer.float().transpose(0, 1), targets, lengths, target_lengths, blank=0, reduction="none",
                zero_infinity=True,
            )
            for layer in (log_probs, *intermediate)
        ]  # fmt: skip
        values = layers[0]
        if intermediate:
            values = (1 - self.intermediate_weight) * values
            values = values + self.intermediate_weight * torch.stack(layers[1:]).mean(dim=0)
        on_device = send(torch.stack([lengths, target_lengths]), device)
        infeasible = self._infeasible(on_device[0], targets, on_device[1])
        if self.normalize_by_length:
            values = values / on_device[1].clamp(min=1)
        return LossValues(values.masked_fill(infeasible, 0.0), infeasible)

    @staticmethod
    def _infeasible(lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        second = torch.arange(targets.shape[1], device=targets.device)[1:]
        repeats = ((targets[:, 1:] == targets[:, :-1]) & (second < target_lengths[:, None])).sum(dim=1)
        return target_lengths + repeats > lengths
