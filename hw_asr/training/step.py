"""One optimiser step: features, augmentation, forward, backward, clip, update; on one process or several."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from hw_asr.batch import Batch
from hw_asr.features import FrontEnd
from hw_asr.models.forward import run_all_layers
from hw_asr.models.normalization import synchronize_batch_norm
from hw_asr.runtime.memory import is_out_of_memory
from hw_asr.runtime.processes import PeerOutOfMemoryError, Processes
from hw_asr.runtime.transfers import send
from hw_asr.training.freezing import Freezing
from hw_asr.training.gradient_exchange import GradientExchange
from hw_asr.training.progress import mix_seed
from hw_asr.training.step_result import NOT_FINITE, OUT_OF_MEMORY, SCALE_LOWERED, Outputs, StepResult
from hw_asr.training.stream import Placed
from hw_asr.types import SpectrogramAugmentation, WaveAugmentation

logger = logging.getLogger(__name__)


@dataclass
class _Tally:
    """Sums over the batches of one step on this process, on its device, and the last batch."""

    loss_sum: Tensor
    infeasible: Tensor
    last: tuple[Batch, Outputs] | None = None


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
    freeze: Sequence[str] = ()
    unfreeze_after_epochs: int | None = None


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
        self.freezing = Freezing(model, settings.freeze, settings.unfreeze_after_epochs)
        self.optimizer = optimizer
        self.scaler = GradScaler(processes.device.type, enabled=settings.precision == "fp16")
        self._front_end = front_end
        self._augmentations = augmentations
        self._loss = loss
        self._processes = processes
        self._settings = settings
        self._messages = synchronize_batch_norm(model, processes)
        self._exchange = GradientExchange(model.parameters(), processes)
        self._scaled = False

    def run(self, group: Sequence[Placed]) -> StepResult:
        """Update the model by one group of batches; or leave it unchanged and return the reason."""
        self.freezing.set_train_mode()
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        sizes = self._processes.sum([len(placed.batch) for placed in group] + self._missing(group))
        missing = sizes[len(group) :]
        total = sum(size for size, lacks in zip(sizes, missing, strict=False) if not lacks)
        usable = [placed for placed, lacks in zip(group, missing, strict=True) if len(placed.batch) > 0 and not lacks]
        nothing = torch.zeros((), device=self._processes.device)
        tally = _Tally(nothing, nothing.clone())
        self.scaler.scale(nothing)  # makes the scale, also if no batch here can be used
        self._exchange.start()
        sums = self._accumulate_all(usable, max(1.0, total), tally)
        self._exchange.finish()
        loss_sum, infeasible, norm = self._read(sums, self._clip(skip=sums is None))
        problem = self._problem(sums is not None, loss_sum, norm)
        self._update(skip=problem is not None or total == 0)
        if problem is not None:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):  # running statistics
                buffer.copy_(before)
        if problem == OUT_OF_MEMORY and self._processes.device.type == "cuda":
            torch.cuda.empty_cache()
        last = (None, None) if problem is not None or tally.last is None else tally.last
        return StepResult(loss_sum, int(total), int(infeasible), norm, problem, *last)

    def _missing(self, group: Sequence[Placed]) -> list[float]:
        """Return 1 for each batch that is empty here while layers need every process to take part, otherwise 0."""
        if not any(getattr(module, "messages", None) is not None for module in self.model.modules()):
            return [0.0] * len(group)
        return [float(self._is_empty(placed.batch)) for placed in group]

    def _is_empty(self, batch: Batch) -> bool:
        """Whether the network has nothing to read in a batch."""
        if len(batch) == 0:
            return True
        frames = self._front_end.num_frames(batch.sample_lengths)
        return not bool(self.model.transform_input_lengths(frames).any())  # type: ignore[operator]

    def _accumulate_all(self, batches: Sequence[Placed], total: float, tally: _Tally) -> Tensor | None:
        """Add up the gradients of the batches.

        Returns the loss and the number of infeasible utterances over all processes (2,), or None if the batches do not
        fit into the memory of some process.
        """
        try:
            for number, placed in enumerate(batches, start=1):
                if number == len(batches):
                    self._exchange.announce_last()
                self._accumulate(placed, total, tally)
            return self._messages.gather(torch.stack([tally.loss_sum, tally.infeasible])).sum(0)
        except PeerOutOfMemoryError:
            return None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # After the `except` block, where the error no longer keeps the activations alive.
        self._messages.cancel()
        return None

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
        tally.infeasible += values.infeasible.sum()
        tally.last = (batch, outputs)

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

    def _clip(self, skip: bool) -> Tensor:
        """Unscale and clip the gradients; return their norm before clipping, or NaN if there is nothing to use."""
        if skip:
            return torch.full((), float("nan"), device=self._processes.device)
        self._scaled = self.scaler.is_enabled() and any(
            parameter.grad is not None for parameter in self.model.parameters()
        )
        if self._scaled:
            self.scaler.unscale_(self.optimizer)
        clip, parameters = self._settings.grad_norm_clip, list(self.model.parameters())
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if clip is not None and (norm.device.type != "cpu" or not norm <= clip):  # a GPU would be waited for
            clip_grads_with_norm_(parameters, clip, norm)
        return norm

    def _read(self, sums: Tensor | None, norm: Tensor) -> list[float]:
        """Return the sum of the losses, the number of infeasible utterances and the norm; NaN for those of None.

        With one process, this is the one place where a step waits for the device.
        """
        if sums is None:
            return [math.nan, 0.0, math.nan]
        values: list[float] = torch.cat([sums, send(norm, sums.device).double()[None]]).tolist()
        return values

    def _problem(self, complete: bool, loss_sum: float, norm: float) -> str | None:
        if not complete:
            return OUT_OF_MEMORY
        if math.isfinite(loss_sum) and math.isfinite(norm):
            return None
        return SCALE_LOWERED if self.scaler.is_enabled() and math.isfinite(loss_sum) else NOT_FINITE

    def _update(self, skip: bool) -> None:
        """Take the optimiser's step, unless it is to be skipped, and clear the gradients."""
        if not skip:
            self.optimizer.step()  # not through the scaler: the norm has shown that the gradients are finite
        if self._scaled:
            self.scaler.update()
            self._scaled = False
        self.optimizer.zero_grad(set_to_none=True)
