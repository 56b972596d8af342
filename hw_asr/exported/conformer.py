"""The Conformer as a graph: features (B, F, T) to logits (B, T', V)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import nn

from hw_asr.exported.front_end import Features
from hw_asr.exported.graph import Graph
from hw_asr.exported.layers import Rows, affine, array, linear, self_conditioned
from hw_asr.models.conformer import Conformer, Subsampling
from hw_asr.models.conformer_layer import ConformerLayer, ConvolutionModule, FeedForward, SelfAttention


class _Frames(NamedTuple):
    """What the layers need to know about the frames; values in a graph."""

    mask: str
    """(B, T, 1), 1 for real frames and 0 for padding."""
    hidden_keys: str
    """(B, 1, 1, T), added to attention scores: 0 for frames that are attended to, else a large negative number."""
    cos: str
    """(T, D / 2), as in `rotary.Rotation`."""
    sin: str


def conformer(graph: Graph, model: Conformer, features: Features) -> Features:
    """Add the network; return logits (B, T', V), zero beyond each length, and lengths."""
    rows, lengths = _subsampled(graph, model.subsampling, features)
    frames = _frames(graph, model, lengths, graph.size(rows, 1))
    for number, layer in enumerate(model.layers, start=1):
        assert isinstance(layer, ConformerLayer)
        rows = _layer(graph, layer, rows, frames)
        rows = self_conditioned(graph, model.intermediate, number, Rows(rows)).values
    return Features(graph.op("Mul", _linear(graph, model.linear, rows), frames.mask), lengths)


def _subsampled(graph: Graph, block: Subsampling, features: Features) -> tuple[str, str]:
    """Return rows (B, T, C) at a quarter of the rate and lengths (B,)."""
    image = graph.op("Transpose", features.values, perm=[0, 2, 1])
    image, lengths = graph.op("Unsqueeze", image, graph.integers(1)), features.lengths
    for layers in ([block.first], [block.depthwise, block.pointwise]):
        for layer in layers:
            image = _convolution(graph, layer, image)
        lengths = graph.strided(lengths, 2)
        mask = graph.float_mask(lengths, graph.size(image, 2), 1, 3)
        image = graph.op("Mul", graph.op("Relu", image), mask)
    frames = graph.op("Transpose", image, perm=[0, 2, 1, 3])
    return _linear(graph, block.linear, graph.op("Reshape", frames, graph.integers(0, 0, -1))), lengths


def _convolution(graph: Graph, layer: nn.Conv2d, image: str) -> str:
    assert layer.bias is not None
    height, width = (int(size) for size in layer.padding)
    return graph.op(
        "Conv", image, graph.weight(array(layer.weight), (0,)), graph.constant(array(layer.bias)),
        strides=list(layer.stride), pads=[height, width, height, width], group=layer.groups,
    )  # fmt: skip


def _frames(graph: Graph, model: Conformer, lengths: str, count: str) -> _Frames:
    mask = graph.float_mask(lengths, count)
    # An utterance without frames may attend to all of them, so that its softmax is defined.
    keys = graph.float_mask(graph.op("Where", graph.op("Equal", lengths, graph.integer(0)), count, lengths), count)
    hidden = graph.op("Mul", graph.op("Sub", graph.constant(1.0), keys), graph.constant(-1e30))
    size, base = model.positions.size, model.positions.base
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = np.float32(base) ** -exponents
    times = graph.op("Cast", graph.op("Unsqueeze", graph.positions(count), graph.integers(1)), to=1)
    angles = graph.op("Mul", times, graph.constant(frequencies))
    return _Frames(
        graph.op("Unsqueeze", mask, graph.integers(2)),
        graph.op("Unsqueeze", hidden, graph.integers(1, 2)),
        graph.op("Cos", angles),
        graph.op("Sin", angles),
    )


def _layer(graph: Graph, layer: ConformerLayer, rows: str, frames: _Frames) -> str:
    rows = graph.op("Add", rows, _half(graph, _feed_forward(graph, layer.first_ffn, rows)))
    rows = graph.op("Add", rows, _attention(graph, layer.attention, rows, frames))
    rows = graph.op("Add", rows, _convolved(graph, layer.convolution, rows, frames))
    rows = graph.op("Add", rows, _half(graph, _feed_forward(graph, layer.second_ffn, rows)))
    return _norm(graph, layer.norm, rows)


def _half(graph: Graph, rows: str) -> str:
    return graph.op("Mul", rows, graph.constant(0.5))


def _feed_forward(graph: Graph, module: FeedForward, rows: str) -> str:
    norm, wide, _, _, narrow, _ = module.layers
    assert isinstance(norm, nn.LayerNorm) and isinstance(wide, nn.Linear) and isinstance(narrow, nn.Linear)
    return _linear(graph, narrow, _silu(graph, _linear(graph, wide, _norm(graph, norm, rows))))


def _attention(graph: Graph, module: SelfAttention, rows: str, frames: _Frames) -> str:
    inputs = _linear(graph, module.inputs, _norm(graph, module.norm, rows))  # (B, T, 3 C)
    heads = graph.op("Reshape", inputs, graph.integers(0, 0, 3, module.num_heads, -1))
    heads = graph.op("Transpose", heads, perm=[2, 0, 3, 1, 4])  # (3, B, H, T, D)
    query, key, value = (
        graph.op("Squeeze", part, graph.integers(0)) for part in graph.ops("Split", [heads], 3, axis=0)
    )
    size = module.output.in_features // module.num_heads
    query = graph.op("Mul", _rotated(graph, query, frames), graph.constant(size**-0.5))
    key = graph.op("Transpose", _rotated(graph, key, frames), perm=[0, 1, 3, 2])
    scores = graph.op("Add", graph.op("MatMul", query, key), frames.hidden_keys)
    attended = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    together = graph.op("Transpose", attended, perm=[0, 2, 1, 3])
    return _linear(graph, module.output, graph.op("Reshape", together, graph.integers(0, 0, -1)))


def _rotated(graph: Graph, heads: str, frames: _Frames) -> str:
    """Add `rotary.Rotation.apply`."""
    first, second = graph.ops("Split", [heads], 2, axis=-1)
    real = graph.op("Sub", graph.op("Mul", first, frames.cos), graph.op("Mul", second, frames.sin))
    imaginary = graph.op("Add", graph.op("Mul", first, frames.sin), graph.op("Mul", second, frames.cos))
    return graph.op("Concat", real, imaginary, axis=-1)


def _convolved(graph: Graph, module: ConvolutionModule, rows: str, frames: _Frames) -> str:
    gated = _linear(graph, module.gated, _norm(graph, module.norm, rows))
    values, gates = graph.ops("Split", [gated], 2, axis=-1)
    rows = graph.op("Mul", graph.op("Mul", values, graph.op("Sigmoid", gates)), frames.mask)
    scale, shift = affine(module.batch_norm)
    assert module.depthwise.bias is not None
    weight = array(module.depthwise.weight) * scale[:, None, None]
    bias = array(module.depthwise.bias) * scale + shift
    side = weight.shape[2] // 2
    image = graph.op(
        "Conv", graph.op("Transpose", rows, perm=[0, 2, 1]), graph.weight(weight, (0,)), graph.constant(bias),
        group=len(weight), pads=[side, side],
    )  # fmt: skip
    return _linear(graph, module.output, _silu(graph, graph.op("Transpose", image, perm=[0, 2, 1])))


def _norm(graph: Graph, norm: nn.LayerNorm, rows: str) -> str:
    weight, bias = graph.constant(array(norm.weight)), graph.constant(array(norm.bias))
    return graph.op("LayerNormalization", rows, weight, bias, axis=-1, epsilon=norm.eps)


def _silu(graph: Graph, rows: str) -> str:
    return graph.op("Mul", rows, graph.op("Sigmoid", rows))


def _linear(graph: Graph, layer: nn.Linear, rows: str) -> str:
    return linear(graph, layer, Rows(rows))
