"""DeepSpeech 2 as a graph: features (B, F, T) to logits (B, T', V)."""

from __future__ import annotations

import numpy as np
from torch import nn

from hw_asr.exported.front_end import Features
from hw_asr.exported.graph import Graph
from hw_asr.exported.layers import Array, Rows, affine, applied, array, linear, self_conditioned
from hw_asr.models.deepspeech2 import ConvolutionBlock, DeepSpeech2, Lookahead
from hw_asr.models.gru import FrameGRU
from hw_asr.models.normalization import FrameBatchNorm


def deepspeech2(graph: Graph, model: DeepSpeech2, features: Features) -> Features:
    """Add the network; return logits (B, T', V), zero beyond each length, and lengths."""
    image, lengths = _convolutions(graph, model.cnn_block, features)
    frames = graph.op("Transpose", image, perm=[3, 0, 1, 2])
    rows = Rows(graph.op("Reshape", frames, graph.integers(0, 0, -1)), None)
    steps = graph.size(rows.values, 0)
    longest = graph.op("Cast", graph.op("Max", lengths, graph.integer(1)), to=6)  # rows of 0 frames are refused
    block = model.gru_block
    for number, (layer, norm) in enumerate(zip(block.rnn_layers, block.bn_layers, strict=True), start=1):
        assert isinstance(layer, FrameGRU)
        rows = Rows(_gru(graph, layer, rows, longest), affine(norm) if isinstance(norm, FrameBatchNorm) else None)
        rows = self_conditioned(graph, model.intermediate, number, rows)
    if model.lookahead is not None:
        rows = Rows(_lookahead(graph, model.lookahead, applied(graph, rows), lengths, steps), None)
    logits = graph.op("Transpose", linear(graph, model.linear, rows), perm=[1, 0, 2])
    return Features(graph.op("Mul", logits, graph.float_mask(lengths, steps, 2)), lengths)


def _convolutions(graph: Graph, block: ConvolutionBlock, features: Features) -> tuple[str, str]:
    """Return the image (B, C, F', T') and the lengths (B,)."""
    image, lengths = graph.op("Unsqueeze", features.values, graph.integers(1)), features.lengths
    layers = list(block.block)
    for index in range(0, len(layers), 3):
        convolution, norm = layers[index], layers[index + 1]
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, FrameBatchNorm)
        assert convolution.bias is not None
        scale, shift = affine(norm)
        weight = array(convolution.weight) * scale[:, None, None, None]
        bias = array(convolution.bias) * scale + shift
        height, width = (int(size) // 2 for size in convolution.kernel_size)
        image = graph.op(
            "Conv", image, graph.weight(weight, (0,)), graph.constant(bias),
            strides=list(convolution.stride), pads=[height, width, height, width],
        )  # fmt: skip
        lengths = graph.strided(lengths, int(convolution.stride[1]))
        mask = graph.float_mask(lengths, graph.size(image, 3), 1, 2)
        image = graph.op("Mul", graph.op("Relu", image), mask)
    return image, lengths


def _gru(graph: Graph, layer: FrameGRU, rows: Rows, lengths: str) -> str:
    """Add a layer; return (T, B, H or 2H). ONNX orders the gates z, r, n; torch r, z, n."""
    hidden = layer.hidden_size
    inputs, recurrent, biases = [], [], []
    for weight_ih, weight_hh, bias_ih, bias_hh in (map(array, weights) for weights in layer.all_weights):
        if rows.pending is not None:
            bias_ih = bias_ih + weight_ih @ rows.pending.shift
            weight_ih = weight_ih * rows.pending.scale
        inputs.append(_reordered(weight_ih, hidden))
        recurrent.append(_reordered(weight_hh, hidden))
        biases.append(np.concatenate([_reordered(bias_ih, hidden), _reordered(bias_hh, hidden)]))
    weights = [graph.weight(np.stack(inputs), (0, 1)), graph.weight(np.stack(recurrent), (0, 1))]
    output, _ = graph.ops(
        "GRU", [rows.values, *weights, graph.constant(np.stack(biases)), lengths], 2, hidden_size=hidden,
        direction="bidirectional" if layer.bidirectional else "forward", linear_before_reset=1,
    )  # fmt: skip
    together = graph.op("Transpose", output, perm=[0, 2, 1, 3])  # (T, B, directions, H)
    return graph.op("Reshape", together, graph.integers(0, 0, -1))


def _reordered(gates: Array, hidden: int) -> Array:
    return np.concatenate([gates[hidden : 2 * hidden], gates[:hidden], gates[2 * hidden :]])


def _lookahead(graph: Graph, layer: Lookahead, rows: str, lengths: str, steps: str) -> str:
    """Add the convolution over following frames, which are zero beyond a row's length: (T, B, C) to (T, B, C)."""
    image = graph.op("Transpose", rows, perm=[1, 2, 0])
    image = graph.op("Mul", image, graph.float_mask(lengths, steps, 1))
    weight = array(layer.conv.weight)
    ahead = weight.shape[2] - 1
    image = graph.op("Conv", image, graph.weight(weight, (0,)), group=len(weight), pads=[0, ahead])
    return graph.op("Transpose", image, perm=[2, 0, 1])
