"""Float32 matrix products on the CPU through oneDNN on AMD processors with AVX-512, which MKL does not use there.

On Intel processors MKL is as fast for large products and two to three times as fast for the small ones of a recurrence.
The operators are the ones torch.compile calls for a linear layer. Other types, devices, processors and builds of torch
without oneDNN take torch's own product, and so do products too small to pay for oneDNN's preparations.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

_SMALL = 500_000
"""Multiplications below which torch's own product returns sooner."""
HAS_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _is_intel() -> bool:
    """Whether the processor is one of Intel's, as far as Linux and Windows tell."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            return "GenuineIntel" in file.read(4096)
    except OSError:
        return "GenuineIntel" in os.environ.get("PROCESSOR_IDENTIFIER", "")


_ONEDNN: bool = HAS_ONEDNN and torch.backends.cpu.get_cpu_capability().startswith("AVX512") and not _is_intel()


def matmul(left: Tensor, right: Tensor, addend: Tensor | None = None) -> Tensor:
    """Return left (M, K) @ right (K, N), plus addend (N,) or (M, N) when given.

    The arguments may be views; `right` is best read along its rows.
    """
    if _onednn_takes(left, right):
        return onednn(left, right, addend)
    return left @ right if addend is None else torch.addmm(addend, left, right)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left (M, K) @ right (K, N) to total (M, N), in place."""
    if _onednn_takes(left, right):
        total.copy_(onednn(left, right, total))
    else:
        total.addmm_(left, right)


def transposed(matrix: Tensor) -> Tensor:
    """Return a matrix (M, N) as (N, M) in the layout that `matmul` reads faster on its left."""
    return matrix.t().contiguous() if _ONEDNN else matrix.t()


def onednn(left: Tensor, right: Tensor, addend: Tensor | None) -> Tensor:
    """Return the same through oneDNN, whatever its size."""
    product: Tensor
    if addend is not None and addend.dim() == 2:
        product = torch.ops.mkldnn._linear_pointwise.binary(left, addend, right.t(), None, "add")
    else:
        product = torch.ops.mkldnn._linear_pointwise(left, right.t(), addend, "none", [], "")
    return product


def _onednn_takes(left: Tensor, right: Tensor) -> bool:
    return _ONEDNN and left.numel() * right.shape[1] > _SMALL and left.dtype == torch.float32 and left.is_cpu
