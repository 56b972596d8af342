"""A builder of ONNX graphs: nodes, constants and weights, with the few patterns that all parts need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

MIN_QUANTIZED = 4096
"""Weights with fewer values stay float32: they take little room."""


class Graph:
    """Collects nodes; values are referred to by their names.

    Args:
        int8: store large weights as 8-bit integers with one scale per output channel. They are converted to float32
            when a model is loaded; activations stay float32, so that a result does not depend on the rest of a batch.
    """

    def __init__(self, int8: bool = False) -> None:
        self._int8 = int8
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], num_outputs: int, **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        names = [f"{kind}_{len(self._nodes)}_{index}" for index in range(num_outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def named(self, value: str, name: str) -> str:
        """Give a value a public name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def constant(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """Return a small constant; equal ones are stored once."""
        array = np.asarray(values, dtype)
        name = f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()}"
        if len(name) > 80:
            return self._store(array)
        self._initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Return a constant vector of int64, for shapes and axes."""
        return self.constant(values, np.int64)

    def integer(self, value: int) -> str:
        """Return a constant scalar of int64."""
        return self.constant(value, np.int64)

    def weight(self, values: NDArray[np.floating], channel_axes: tuple[int, ...]) -> str:
        """Return a float32 weight; with int8, each index along `channel_axes` has a scale of its own."""
        array = np.ascontiguousarray(values, np.float32)
        if not self._int8 or array.size < MIN_QUANTIZED:
            return self._store(array)
        others = tuple(axis for axis in range(array.ndim) if axis not in channel_axes)
        scale = np.maximum(np.abs(array).max(axis=others, keepdims=True), np.float32(1e-12)) / np.float32(127)
        quantized = self._store(np.clip(np.rint(array / scale), -127, 127).astype(np.int8))
        return self.op("Mul", self.op("Cast", quantized, to=TensorProto.FLOAT), self._store(scale))

    def initial(self, name: str, values: NDArray[Any]) -> None:
        """Give an optional input its default."""
        self._initializers[name] = numpy_helper.from_array(values, name)

    def finish(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """Return the graph."""
        return helper.make_graph(self._nodes, name, inputs, outputs, list(self._initializers.values()))

    def size(self, value: str, axis: int) -> str:
        """Return the size (1,) of an axis."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def positions(self, count: str) -> str:
        """Return 0, ..., count - 1 as int64; `count` is (1,)."""
        return self.op("Range", self.integer(0), self.op("Squeeze", count), self.integer(1))

    def mask(self, lengths: str, count: str) -> str:
        """Return booleans (B, count), true at positions below the row's length."""
        return self.op("Less", self.positions(count), self.op("Unsqueeze", lengths, self.integers(1)))

    def float_mask(self, lengths: str, count: str, *axes: int) -> str:
        """Return the mask as 0 and 1, with new axes."""
        mask = self.op("Cast", self.mask(lengths, count), to=TensorProto.FLOAT)
        return self.op("Unsqueeze", mask, self.integers(*axes)) if axes else mask

    def cut(self, value: str, end: str, axis: int) -> str:
        """Return what lies before `end` (1,) along an axis."""
        return self.op("Slice", value, self.integers(0), end, self.integers(axis))

    def linear(self, rows: str, weight: NDArray[np.floating], bias: NDArray[np.floating] | None = None) -> str:
        """Apply a layer of torch: weight (outputs, inputs), bias (outputs,)."""
        product = self.op("MatMul", rows, self.weight(weight.T, (1,)))
        return product if bias is None else self.op("Add", product, self.constant(bias))

    def strided(self, lengths: str, stride: int) -> str:
        """Return the frames left of lengths by a centred kernel that hops by `stride`."""
        if stride == 1:
            return lengths
        return self.op("Div", self.op("Add", lengths, self.integer(stride - 1)), self.integer(stride))

    def _store(self, array: NDArray[Any]) -> str:
        name = f"weight_{len(self._initializers)}"
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
