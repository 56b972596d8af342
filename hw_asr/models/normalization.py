"""Batch normalisation over rows of real frames, on one process or over all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.runtime.processes import go_on_together


class FrameBatchNorm(nn.BatchNorm1d):
    """Batch normalisation (arXiv:1502.03167) of rows (N, C) or (N, C, D), each of them a real frame.

    Parameters and buffers are those of torch's BatchNorm1d and BatchNorm2d. With `synchronized` set, statistics in
    training are those of the rows of all processes, however many each of them has. Where there are fewer than two
    values per channel, which have no variance, the running statistics are used.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    synchronized: bool = False

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise each channel; in training the running statistics follow."""
        if self.training and self.synchronized and dist.is_initialized() and dist.get_world_size() > 1:
            return self._synchronized(rows)
        if not self.training or rows.numel() < 2 * self.num_features:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(rows, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(rows)

    def _synchronized(self, rows: Tensor) -> Tensor:
        normalized, mean, var, count = _SynchronizedNorm.apply(rows, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        shape = (1, -1) + (1,) * (rows.dim() - 2)
        output: Tensor = normalized * self.weight.view(shape) + self.bias.view(shape)
        return output


def synchronize_batch_norm(model: nn.Module, synchronized: bool = True) -> None:
    """Make every `FrameBatchNorm` of a model take its statistics over all processes, or over its own again."""
    for module in model.modules():
        if isinstance(module, FrameBatchNorm):
            module.synchronized = synchronized


class _SynchronizedNorm(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) with the mean and variance of all processes, and its exact gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        values = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        count = values.new_tensor([values.numel() / max(1, values.shape[1])])
        sums = _all_reduce(torch.cat([values.sum(axes), count]))
        count = sums[-1:]
        shape = (1, -1) + (1,) * (rows.dim() - 2)
        mean = sums[:-1] / count.clamp(min=1)
        centred = values - mean.view(shape)
        var = _all_reduce(centred.square().sum(axes)) / count.clamp(min=1)
        scale = (var + eps).rsqrt()
        normalized = centred * scale.view(shape)
        ctx.save_for_backward(normalized, scale, count)
        ctx.axes, ctx.shape = axes, shape
        ctx.mark_non_differentiable(mean, var, count)
        return normalized.to(rows.dtype), mean, var, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        normalized, scale, count = ctx.saved_tensors
        slope = grad.to(normalized.dtype)
        sums = torch.stack([slope.sum(ctx.axes), (slope * normalized).sum(ctx.axes)])
        mean_slope, mean_product = (_all_reduce(sums) / count.clamp(min=1)).unbind(0)
        inner = slope - mean_slope.view(ctx.shape) - normalized * mean_product.view(ctx.shape)
        return (inner * scale.view(ctx.shape)).to(grad.dtype), None


def _all_reduce(values: Tensor) -> Tensor:
    go_on_together()
    dist.all_reduce(values)
    return values
