"""What an optimiser step did: losses, outputs of the last batch, or the reason why it was skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hw_asr.batch import Batch

OUT_OF_MEMORY, NOT_FINITE, SCALE_LOWERED = "out of memory", "not finite", "fp16 loss scale lowered"


@dataclass(frozen=True)
class Outputs:
    """What the model made of a batch: features (B, F, T), log-probabilities (B, T', V), their lengths (B,).

    `intermediate` are the log-probabilities (B, T', V) of inner layers with a CTC head.
    """

    features: Tensor
    feature_lengths: Tensor
    log_probs: Tensor
    lengths: Tensor
    intermediate: Sequence[Tensor] = ()


@dataclass(frozen=True)
class StepResult:
    """What an optimiser step did; sums are over all processes.

    `problem` is None if the model was updated, otherwise OUT_OF_MEMORY, NOT_FINITE or SCALE_LOWERED. The last is
    routine: fp16 raises the loss scale until gradients overflow, skips that step and lowers the scale.
    """

    loss_sum: float
    num_utterances: int
    num_infeasible: int
    grad_norm: float
    problem: str | None
    batch: Batch | None
    outputs: Outputs | None
