"""Matrix products on the CPU through oneDNN, which also uses AVX-512 where MKL does not (AMD), for float32.

The operators are the ones torch.compile calls for a linear layer. Other types, devices and builds of torch without
oneDNN take torch's own product.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return left (M, K) @ right (K, N), plus bias (N,) when given; either may be a transposed view."""
    if _onednn_takes(left):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")
        return product
    return left @ right if bias is None else torch.addmm(bias, left, right)


class RepeatedMatmul:
    """Adds x @ right to another matrix for one `right` (K, N) and many x, which have at most `num_rows` rows."""

    def __init__(self, right: Tensor, num_rows: int) -> None:
        self._right = right.contiguous()
        self._packed: Tensor | None = None
        if _onednn_takes(right) and num_rows > 0:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous(), num_rows)

    def __call__(self, left: Tensor, addend: Tensor) -> Tensor:
        """Return addend (M, N) + left (M, K) @ right."""
        if self._packed is None:
            return torch.addmm(addend, left, self._right)
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(left, addend, self._packed, None, "add")
        return total


def _onednn_takes(matrix: Tensor) -> bool:
    return (
        matrix.dtype == torch.float32
        and matrix.device.type == "cpu"
        and matrix.numel() > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
