"""The baseline model as a graph: features (B, F, T) to logits (B, T, V)."""

from __future__ import annotations

from torch import nn

from hw_asr.exported.front_end import Features
from hw_asr.exported.graph import Graph
from hw_asr.exported.layers import Rows, linear
from hw_asr.models.baseline import BaselineModel


def baseline(graph: Graph, model: BaselineModel, features: Features) -> Features:
    """Add the network; return logits (B, T, V) and lengths."""
    rows = graph.op("Transpose", features.values, perm=[0, 2, 1])
    for layer in model.net:
        rows = linear(graph, layer, Rows(rows)) if isinstance(layer, nn.Linear) else graph.op("Relu", rows)
    return Features(rows, features.lengths)
