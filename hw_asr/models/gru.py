"""A GRU layer over rows of real frames: cuDNN on a GPU, an own recurrence on a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from hw_asr.models.matmul import add_product, matmul, transposed
from hw_asr.models.packing import Packing


class FrameGRU(nn.GRU):
    """One layer of torch's GRU (arXiv:1406.1078, the reset gate applied after the product), on packed rows.

    Parameters are those of torch.nn.GRU. On the CPU, where torch computes frame by frame, everything that does not
    depend on the state is computed for all frames at once, in the forward and in the backward pass.

    Args:
        input_size: features of a row.
        hidden_size: H.
        bidirectional: whether a second recurrence runs from the end; its outputs follow the first one's.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__(input_size, hidden_size, bidirectional=bidirectional)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Map rows (N, input_size), described by `packing`, to (N, H) or (N, 2H); states start at zero."""
        if rows.device.type == "cpu":
            return self._on_cpu(rows, packing.batch_sizes.tolist())
        if packing.num_rows == 0:
            return rows.new_zeros(0, self.hidden_size * (1 + self.bidirectional))
        return self._by_torch(rows, packing)

    def _by_torch(self, rows: Tensor, packing: Packing) -> Tensor:
        """Run torch's own layer in the type of autocast, or of the weights without autocast.

        Autocast itself would run cuDNN's recurrence in float16 under bfloat16, too, where gradients would vanish
        since the loss is not scaled.
        """
        kind = rows.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.all_weights[0][0].dtype
        if dtype is torch.bfloat16:
            return self._in_bfloat16(rows, packing)
        half = dtype is torch.float16
        with torch.autocast(kind, dtype=torch.float16, enabled=half):
            packed, _ = nn.GRU.forward(self, PackedSequence(rows if half else rows.to(dtype), packing.batch_sizes))
        output: Tensor = packed.data
        return output

    def _in_bfloat16(self, rows: Tensor, packing: Packing) -> Tensor:
        directions = 1 + self.bidirectional
        with torch.autocast(rows.device.type, enabled=False), warnings.catch_warnings():
            # Copies of weights do not lie in one block; cuDNN copies them into one, a few MB.
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            weights = [weight.bfloat16() for weight in self._flat_weights if weight is not None]
            rows = rows.bfloat16()
            start = rows.new_zeros(directions, int(packing.batch_sizes[0]), self.hidden_size)
            sizes = packing.batch_sizes
            output, _ = torch.gru(rows, sizes, start, weights, True, 1, 0.0, self.training, self.bidirectional)
        return output

    def _on_cpu(self, rows: Tensor, sizes: list[int]) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            rows = rows.to(self.all_weights[0][0].dtype)
            outputs: list[Tensor] = [
                _Recurrence.apply(rows, *weights, sizes, direction == 1)  # type: ignore[no-untyped-call]
                for direction, weights in enumerate(self.all_weights)
            ]
        return torch.cat(outputs, dim=1)


class _Recurrence(torch.autograd.Function):
    """One direction of a GRU over packed rows, of which `sizes[t]` belong to frame t.

    With the gates r and z, the candidate n, the state h' before and the product a = W_hn h' + b_hn of a frame:
    n = tanh(x_n + r a), h = n + z (h' - n). How h changes with the arguments of the gates is known for all frames
    before the backward recurrence begins; a step of it is then one scaling and one matrix product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        sizes: list[int],
        reverse: bool,
    ) -> Tensor:
        hidden = weight_hh.shape[1]
        gates, new = _inputs(rows, weight_ih, bias_ih, bias_hh)
        recurrent = weight_hh.t().contiguous()
        after = torch.empty_like(new)
        state, before = new[:0], [new[:0]] * len(sizes)
        views = gates, gates[:, : 2 * hidden], *gates.chunk(3, dim=1), new, after
        for frame, gate, sigmoids, reset, update, product, candidate, result in _steps(sizes, reverse, *views):
            state = before[frame] = _resized(state, sizes[frame])
            add_product(gate, state, recurrent)
            sigmoids.sigmoid_()
            candidate.addcmul_(reset, product).tanh_()
            state = torch.lerp(candidate, state, update, out=result)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(rows, weight_ih, weight_hh, torch.cat([new[:0], *before]), gates, new)
            ctx.sizes, ctx.reverse = sizes, reverse
        return after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight_ih, weight_hh, before, gates, new = ctx.saved_tensors
        hidden = before.shape[1]
        update = gates[:, hidden : 2 * hidden]
        slopes, candidate_slope = _slopes(before, gates, new)
        state_grads = _backward_recurrence(grad, slopes, update, weight_hh, ctx.sizes, ctx.reverse)
        gate_grads = slopes.flatten(1)
        weight_hh_grad, bias_hh_grad = matmul(transposed(gate_grads), before), gate_grads.sum(0)
        candidate_grads = torch.mul(state_grads, candidate_slope, out=gate_grads[:, 2 * hidden :])
        bias_ih_grad = torch.cat([bias_hh_grad[: 2 * hidden], candidate_grads.sum(0)])
        weight_ih_grad = matmul(transposed(gate_grads), rows)
        rows_grad = matmul(gate_grads, weight_ih) if ctx.needs_input_grad[0] else None
        return rows_grad, weight_ih_grad, weight_hh_grad, bias_ih_grad, bias_hh_grad, None, None


def _inputs(rows: Tensor, weight_ih: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the recurrent products are added to (N, 3H), and the candidates' share of the rows (N, H)."""
    hidden = len(bias_ih) // 3
    bias = torch.cat([bias_ih[: 2 * hidden] + bias_hh[: 2 * hidden], bias_ih[2 * hidden :]])
    gates = matmul(rows, weight_ih.t(), bias)
    candidates = gates[:, 2 * hidden :].clone(memory_format=torch.contiguous_format)
    gates[:, 2 * hidden :] = bias_hh[2 * hidden :]
    return gates, candidates


def _slopes(before: Tensor, gates: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of each state by its gates' arguments (N, 3, H), and by its candidate's (N, H).

    Of the first, the third is taken by the recurrent product, which reaches the candidate through the reset gate.
    """
    reset, update, product = gates.chunk(3, dim=1)
    slopes = gates.new_empty(len(gates), 3, before.shape[1])
    by_candidate = torch.ops.aten.tanh_backward(1 - update, new)
    torch.ops.aten.sigmoid_backward(by_candidate * product, reset, grad_input=slopes[:, 0])
    torch.ops.aten.sigmoid_backward(before - new, update, grad_input=slopes[:, 1])
    torch.mul(by_candidate, reset, out=slopes[:, 2])
    return slopes, by_candidate


def _backward_recurrence(
    grad: Tensor, slopes: Tensor, update: Tensor, weight_hh: Tensor, sizes: list[int], reverse: bool
) -> Tensor:
    """Return the loss's derivatives by the states (N, H), and scale `slopes` (N, 3, H) by them.

    `grad` (N, H) are the derivatives by the layer's outputs; the rest of a state's comes from the frame it leads to.
    """
    carried, state_grads = grad[:0], torch.empty_like(grad)
    views = grad, slopes, slopes.flatten(1), update, state_grads, state_grads[:, None]
    for frame, grad_here, slope, gate_grad, kept, state_grad, by_gate in _steps(sizes, not reverse, *views):
        torch.add(grad_here, _resized(carried, sizes[frame]), out=state_grad)
        slope.mul_(by_gate)
        carried = state_grad * kept
        add_product(carried, gate_grad, weight_hh)
    return state_grads


def _steps(sizes: list[int], reverse: bool, *tensors: Tensor) -> list[tuple[Any, ...]]:
    """Return (t, rows of frame t of each tensor) in the order of a recurrence."""
    pieces = list(zip(range(len(sizes)), *(torch.split(tensor, sizes) for tensor in tensors), strict=True))
    return pieces[::-1] if reverse else pieces


def _resized(state: Tensor, num_rows: int) -> Tensor:
    """Drop the utterances that have ended, or begin with zeros those that start here."""
    missing = num_rows - len(state)
    if missing == 0:
        return state
    if missing < 0:
        return state[:num_rows]
    return torch.cat([state, state.new_zeros(missing, state.shape[1])])
