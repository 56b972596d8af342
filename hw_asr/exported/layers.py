"""Layers that several networks share, as nodes of a graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hw_asr.exported.graph import Graph
from hw_asr.models.intermediate import IntermediateHeads
from hw_asr.models.normalization import FrameBatchNorm

Array = NDArray[np.float32]


class Affine(NamedTuple):
    """A batch normalisation at inference: scale and shift (C,)."""

    scale: Array
    shift: Array


class Rows(NamedTuple):
    """Frames (T, B, C) or (B, T, C)."""

    values: str
    pending: Affine | None = None
    """The normalisation that the next layer applies with its weights."""


def affine(norm: FrameBatchNorm) -> Affine:
    """Return the scale and the shift of a batch normalisation with its running statistics."""
    mean, variance = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
    scale = norm.weight.detach().double().numpy() / np.sqrt(variance + norm.eps)
    shift = norm.bias.detach().double().numpy() - mean * scale
    return Affine(scale.astype(np.float32), shift.astype(np.float32))


def array(tensor: Tensor) -> Array:
    """Return the values of a parameter."""
    result: Array = tensor.detach().float().cpu().numpy()
    return result


def linear(graph: Graph, layer: nn.Linear, rows: Rows) -> str:
    """Apply a layer to frames, with their pending normalisation; return the frames."""
    weight, bias = array(layer.weight), array(layer.bias)
    if rows.pending is not None:
        bias = bias + weight @ rows.pending.shift
        weight = weight * rows.pending.scale
    return graph.linear(rows.values, weight, bias)


def applied(graph: Graph, rows: Rows) -> str:
    """Apply the pending normalisation; return the frames."""
    if rows.pending is None:
        return rows.values
    scaled = graph.op("Mul", rows.values, graph.constant(rows.pending.scale))
    return graph.op("Add", scaled, graph.constant(rows.pending.shift))


def self_conditioned(graph: Graph, heads: IntermediateHeads, number: int, rows: Rows) -> Rows:
    """Add the feedback of self-conditioning after layer `number`; heads without feedback are for training only."""
    key = str(number)
    if key not in heads.feedback:
        return rows
    head, feedback = heads.heads[key], heads.feedback[key]
    assert isinstance(head, nn.Linear) and isinstance(feedback, nn.Linear)
    probabilities = graph.op("Softmax", linear(graph, head, rows), axis=-1)
    back = linear(graph, feedback, Rows(probabilities))
    return Rows(graph.op("Add", applied(graph, rows), back))
