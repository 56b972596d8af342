"""Batch normalisation over rows of real frames, of one process or of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
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
        normalized, mean, var, count = _SynchronizedNorm.apply(rows, self.eps, messages)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        shape = (1, -1) + (1,) * (rows.dim() - 2)
        output: Tensor = normalized * self.weight.view(shape) + self.bias.view(shape)
        return output


def synchronize_batch_norm(model: nn.Module, processes: Processes) -> StepMessages:
    """Make every `FrameBatchNorm` of a model use the statistics of all processes; return the messages it exchanges.

    With one process alone the layers stay as they are.
    """
    layers = [module for module in model.modules() if isinstance(module, FrameBatchNorm)]
    messages = StepMessages(processes, max((1 + 2 * layer.num_features for layer in layers), default=0))
    for layer in layers:
        layer.messages = messages if processes.size > 1 else None
    return messages


class _SynchronizedNorm(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) with the mean and variance over all processes, and its exact gradient.

    Each pass exchanges one message: forward, the count, mean and sum of squared deviations of each process, which are
    combined as by Chan et al. 1979; backward, two sums.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float, messages: StepMessages) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        shape = (1, -1) + (1,) * (rows.dim() - 2)
        values = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        size = values.numel() // max(1, values.shape[1])
        own_mean = values.sum(axes) / max(1, size)
        own_squares = (values - own_mean.view(shape)).square().sum(axes)
        own = torch.cat([own_mean.double(), own_squares.double(), own_mean.new_full((1,), size, dtype=torch.float64)])
        received = messages.gather(own)
        counts = received[:, -1:]
        means, squares = received[:, :-1].chunk(2, dim=1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count.clamp(min=1)
        var = (squares + counts * (means - mean).square()).sum(0) / count.clamp(min=1)
        mean, var, count = (value.to(values.dtype) for value in (mean, var, count))
        scale = (var + eps).rsqrt()
        normalized = (values - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normalized, scale, count)
        ctx.axes, ctx.shape, ctx.messages = axes, shape, messages
        ctx.mark_non_differentiable(mean, var, count)
        return normalized.to(rows.dtype), mean, var, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normalized, scale, count = ctx.saved_tensors
        slope = grad.to(normalized.dtype)
        own = torch.cat([slope.sum(ctx.axes), (slope * normalized).sum(ctx.axes)])
        sums = ctx.messages.gather(own).sum(0).to(slope.dtype)
        mean_slope, mean_product = (sums / count.clamp(min=1)).chunk(2)
        inner = slope - mean_slope.view(ctx.shape) - normalized * mean_product.view(ctx.shape)
        return (inner * scale.view(ctx.shape)).to(grad.dtype), None, None
