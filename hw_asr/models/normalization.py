"""Batch normalisation over rows of real frames, of one process or of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hw_asr.runtime.processes import Processes, StepMessages


class FrameBatchNorm(nn.BatchNorm1d):
    """Batch normalisation (arXiv:1502.03167) of rows (N, C) or (N, C, D), each of them a real frame.

    Parameters and buffers are those of torch's BatchNorm1d and BatchNorm2d. With `messages` set, training uses the
    statistics of the rows of all processes, whatever the number of rows of each. Fewer than two values per channel
    have no variance: the running statistics are used then.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    messages: StepMessages | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise each channel; in training, also update the running statistics."""
        if self.training and self.messages is not None:
            return self._synchronized(rows, self.messages)
        if not self.training or rows.numel() < 2 * self.num_features:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(rows, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(rows)

    def _synchronized(self, rows: Tensor, messages: StepMessages) -> Tensor:
        output, mean, var, count = _SynchronizedNorm.apply(  # type: ignore[no-untyped-call]
            rows, self.weight, self.bias, self.eps, messages
        )
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        normalized: Tensor = output
        return normalized


def synchronize_batch_norm(model: nn.Module, processes: Processes) -> StepMessages:
    """Make every `FrameBatchNorm` of a model use the statistics of all processes; return the messages it exchanges.

    With one process alone the layers stay as they are. A message holds at least two values, which end a step.
    """
    layers = [module for module in model.modules() if isinstance(module, FrameBatchNorm)]
    messages = StepMessages(processes, max((1 + 2 * layer.num_features for layer in layers), default=2))
    for layer in layers:
        layer.messages = messages if processes.size > 1 else None
    return messages


class _SynchronizedNorm(torch.autograd.Function):
    """weight (x - mean) / sqrt(var + eps) + bias with the mean and variance over all processes, and its exact gradient.

    Each pass exchanges one message: forward, the count, mean and sum of squared deviations of each process, which are
    combined as by Chan et al. 1979; backward, two sums. The work on the rows is done by torch's fused operators, to
    which the statistics are constants; the gradient by them is added.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float, messages: StepMessages
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        size = values.numel() // max(1, values.shape[1])
        nothing = torch.zeros_like(weight), torch.zeros_like(weight)
        own_mean, own_var = torch.batch_norm_update_stats(values, None, None, 0.0) if size else nothing
        own_size = own_mean.new_full((1,), size, dtype=torch.float64)
        received = messages.gather(torch.cat([own_mean.double(), own_var.double() * size, own_size]))
        counts = received[:, -1:]
        means, squares = received[:, :-1].chunk(2, dim=1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count.clamp(min=1)
        var = (squares + counts * (means - mean).square()).sum(0) / count.clamp(min=1)
        mean, var, count = (value.to(values.dtype) for value in (mean, var, count))
        ctx.save_for_backward(values, weight, mean, var, count)
        ctx.eps, ctx.messages = eps, messages
        ctx.mark_non_differentiable(mean, var, count)
        output = F.batch_norm(values, mean, var, weight, bias, False, 0.0, eps)
        return output.to(rows.dtype), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, var, count = ctx.saved_tensors
        scale = (var + ctx.eps).rsqrt()
        if values.numel():
            mask = [ctx.needs_input_grad[0], True, True]
            slope, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
                grad.to(values.dtype), values, weight, mean, var, mean, scale, False, ctx.eps, mask
            )
        else:  # torch's operator divides by the number of rows
            slope, weight_grad, bias_grad = torch.zeros_like(values), torch.zeros_like(weight), torch.zeros_like(weight)
        if not ctx.needs_input_grad[0]:
            return None, weight_grad, bias_grad, None, None
        sums = ctx.messages.gather(torch.cat([weight_grad, bias_grad])).sum(0).to(values.dtype)
        by_scale, by_shift = (sums / count.clamp(min=1)).chunk(2)
        slope_of_values = -weight * scale * scale * by_scale
        constant = -weight * scale * by_shift - slope_of_values * mean
        shape = (1, -1) + (1,) * (values.dim() - 2)
        slope.addcmul_(values, slope_of_values.view(shape)).add_(constant.view(shape))
        return slope.to(grad.dtype), weight_grad, bias_grad, None, None
