"""One optimiser step: features, augmentation, forward, backward, clip, update; on one process or many."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from hw_asr.features import FrontEnd
from hw_asr.models.forward import run_all_layers
from hw_asr.runtime.processes import PeerOutOfMemoryError, Processes, go_on_together
from hw_asr.training.progress import mix_seed
from hw_asr.training.stream import Placed
from hw_asr.types import Batch, SpectrogramAugmentation, WaveAugmentation

logger = logging.getLogger(__name__)
_SIGNS_OF_LITTLE_MEMORY = ("not enough memory", "alloc_failed", "allocation_failed")
"""How torch's allocator on the CPU, cuBLAS and cuDNN put it."""


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

    `problem` is None, "out of memory" or "not finite": then nothing was updated.
    """

    loss_sum: float
    num_utterances: int
    num_infeasible: int
    grad_norm: float
    problem: str | None
    batch: Batch | None
    outputs: Outputs | None


@dataclass
class _Tally:
    """What the batches of one step add up to on this process."""

    loss_sum: Tensor
    infeasible: float = 0.0
    shown: tuple[Batch, Outputs] | None = None


class Augmentations(NamedTuple):
    """What changes the waveforms and what changes the features, each in the order it is applied."""

    wave: Sequence[WaveAugmentation] = ()
    spectrogram: Sequence[SpectrogramAugmentation] = ()


@dataclass(frozen=True)
class StepSettings:
    """Numbers of the step; see `trainer` in the config. Without `grad_norm_clip` gradients are not clipped."""

    precision: str = "fp32"
    grad_norm_clip: float | None = None
    seed: int = 0


class TrainingStep:
    """Runs groups of batches as one optimiser step.

    The loss is the mean over the utterances of the whole group and of all processes, so neither gradient accumulation
    nor the number of processes changes the gradient of the same utterances.
    """

    def __init__(
        self,
        model: nn.Module,
        front_end: FrontEnd,
        augmentations: Augmentations,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        settings: StepSettings,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scaler = GradScaler(processes.device.type, enabled=settings.precision == "fp16")
        self._front_end = front_end
        self._augmentations = augmentations
        self._loss = loss
        self._processes = processes
        self._settings = settings

    def run(self, group: Sequence[Placed]) -> StepResult:
        """Update the model by one group of batches, or say why not and leave it as it was."""
        self.model.train()
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        sizes = self._processes.sum([len(placed.batch) for placed in group] + self._missing(group))
        total, missing = sum(sizes[: len(group)]), sizes[len(group) :]
        tally = _Tally(torch.zeros((), device=self._processes.device))
        memory_ran_out = False
        try:
            for placed, lacks in zip(group, missing, strict=True):
                if len(placed.batch) > 0 and not lacks:
                    self._accumulate(placed, max(1.0, total), tally)
            go_on_together()
        except PeerOutOfMemoryError:
            memory_ran_out = True
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            memory_ran_out = True
            go_on_together(ready=False)
        sums = self._processes.sum([0.0 if memory_ran_out else float(tally.loss_sum), tally.infeasible])
        problem = "out of memory" if memory_ran_out else None if math.isfinite(sums[0]) else "not finite"
        norm = self._update(skip=problem is not None)
        if problem is None and not math.isfinite(norm):
            problem = "not finite"
        shown: tuple[Batch, Outputs] | tuple[None, None] = (None, None)
        if problem is None and tally.shown is not None:
            shown = tally.shown
        if problem is not None:
            self._undo(buffers)
        return StepResult(sums[0], int(total), int(sums[1]), norm, problem, *shown)

    def _missing(self, group: Sequence[Placed]) -> list[float]:
        """Say for each batch whether this process has nothing in it, and the others so cannot meet it in the model."""
        meets = self._processes.size > 1 and any(getattr(each, "synchronized", False) for each in self.model.modules())
        return [float(meets and len(placed.batch) == 0) for placed in group]

    def _accumulate(self, placed: Placed, total: float, tally: _Tally) -> None:
        """Add the gradient of one batch, as its share of `total` utterances."""
        try:
            batch = placed.batch.to(self._processes.device)
            outputs = self._forward(batch, placed)
            inner = [outputs.intermediate] if outputs.intermediate else []
            values = self._loss(outputs.log_probs, outputs.lengths, batch.targets, batch.target_lengths, *inner)
            self.scaler.scale(values.values.sum() / total).backward()
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error) and not isinstance(error, PeerOutOfMemoryError):
                shape = " x ".join(map(str, placed.batch.samples.shape))
                logger.warning("out of memory on a batch of %s samples, padding included", shape)
            raise
        tally.loss_sum += values.values.detach().sum()
        tally.infeasible += float(values.infeasible.sum())
        tally.shown = (batch, outputs)

    def _forward(self, batch: Batch, placed: Placed) -> Outputs:
        key = (self._settings.seed, placed.data_pass, placed.position, self._processes.rank)
        torch.manual_seed(mix_seed(*key, 0))  # dropout
        generator = torch.Generator().manual_seed(mix_seed(*key, 1))
        samples, lengths = batch.samples, batch.sample_lengths
        with torch.no_grad():
            for augment in self._augmentations.wave:
                samples, lengths = augment(samples, lengths, generator)
            features, feature_lengths = self._front_end(samples, lengths)
            for mask in self._augmentations.spectrogram:
                features, feature_lengths = mask(features, feature_lengths, generator)
        layers = run_all_layers(self.model, features, feature_lengths, self._settings.precision)
        return Outputs(features, feature_lengths, *layers)

    def _update(self, skip: bool) -> float:
        """Clip, step and clear; return the norm of the gradient before clipping."""
        norm = float("nan")
        if not skip:
            self._processes.sum_gradients(self.model.parameters())
            self.scaler.unscale_(self.optimizer)
            clip = self._settings.grad_norm_clip
            limit = float("inf") if clip is None else clip
            norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
            if math.isfinite(norm):
                self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _undo(self, buffers: Sequence[Tensor]) -> None:
        """Give the buffers (running statistics) their values from before the step; hand unused memory back."""
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self._processes.device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    told = any(sign in str(error).lower() for sign in _SIGNS_OF_LITTLE_MEMORY)
    return told or isinstance(error, (torch.OutOfMemoryError, MemoryError))
