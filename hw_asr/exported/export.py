"""A network as one ONNX graph: waveforms in, log-probabilities out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper
from torch import nn

from hw_asr.config import ExperimentConfig
from hw_asr.experiment.network import Network
from hw_asr.exported import front_end as front_ends
from hw_asr.exported.baseline import baseline
from hw_asr.exported.conformer import conformer
from hw_asr.exported.deepspeech2 import deepspeech2
from hw_asr.exported.errors import ExportError
from hw_asr.exported.front_end import Features
from hw_asr.exported.graph import Graph
from hw_asr.exported.metadata import (
    COMPUTED_FEATURES,
    FEATURES,
    LENGTHS,
    LOG_PROB_LENGTHS,
    LOG_PROBS,
    WAVEFORM,
    Metadata,
)
from hw_asr.models.baseline import BaselineModel
from hw_asr.models.conformer import Conformer
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.recognition.waveform_model import frame_stride
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.streaming.network import obstacle

OPSET, IR_VERSION = 17, 8


def make_model(network: Network, config: ExperimentConfig, int8: bool = False) -> ModelProto:
    """Return a network as an ONNX model; raises ExportError for parts that have no graph."""
    front_end, model = network.front_end, network.model
    front_ends.check_front_end(front_end)
    graph = Graph(int8)
    computed = front_ends.features(graph, front_end, WAVEFORM, LENGTHS)
    graph.named(computed.values, COMPUTED_FEATURES)
    if front_end.normalize == "utterance":
        computed = front_ends.normalized(graph, computed)
    logits = _logits(graph, model, _with_given(graph, computed, front_end.n_feats))
    graph.named(graph.op("LogSoftmax", logits.values, axis=-1), LOG_PROBS)
    graph.named(logits.lengths, LOG_PROB_LENGTHS)
    num_classes = len(network.text_encoder.alphabet)
    inputs = [
        helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, ["batch", "samples"]),
        helper.make_tensor_value_info(LENGTHS, TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch_or_1", front_end.n_feats, "given_frames"]),
    ]
    outputs = [
        helper.make_tensor_value_info(LOG_PROBS, TensorProto.FLOAT, ["batch", "frames", num_classes]),
        helper.make_tensor_value_info(LOG_PROB_LENGTHS, TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info(COMPUTED_FEATURES, TensorProto.FLOAT, ["batch", front_end.n_feats, "computed"]),
    ]
    proto = helper.make_model(
        graph.finish("hw_asr", inputs, outputs),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hw_asr",
    )  # fmt: skip
    helper.set_model_props(proto, _metadata(network, config).to_props())
    onnx.checker.check_model(proto)
    return proto


def write_model(proto: ModelProto, path: Path) -> int:
    """Write a model completely or not at all; return its size in bytes. Raises ExportError when that is impossible."""
    content = proto.SerializeToString()
    try:
        with write_and_rename(path) as file:
            file.write(content)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return len(content)


def _with_given(graph: Graph, computed: Features, n_feats: int) -> Features:
    """Append the frames of the optional input, and a frame of zeros where there would be none."""
    graph.initial(FEATURES, np.zeros((1, n_feats, 0), np.float32))
    batch = graph.size(computed.lengths, 0)
    given = graph.op("Expand", FEATURES, graph.op("Concat", batch, graph.integers(1, 1), axis=0))
    lengths = graph.op("Add", computed.lengths, graph.size(FEATURES, 2))
    values = graph.op("Concat", computed.values, given, axis=2)
    missing = graph.op("Max", graph.op("Sub", graph.integers(1), graph.size(values, 2)), graph.integers(0))
    pads = graph.op("Concat", graph.integers(0, 0, 0, 0, 0), missing, axis=0)
    return Features(graph.op("Pad", values, pads), lengths)


def _logits(graph: Graph, model: nn.Module, features: Features) -> Features:
    if type(model) is DeepSpeech2:
        return deepspeech2(graph, model, features)
    if type(model) is Conformer:
        return conformer(graph, model, features)
    if type(model) is BaselineModel:
        return baseline(graph, model, features)
    raise ExportError(
        f"arch: {type(model).__name__} cannot be exported to ONNX; DeepSpeech2, Conformer and BaselineModel can"
    )


def _metadata(network: Network, config: ExperimentConfig) -> Metadata:
    front_end = network.front_end
    return Metadata(
        alphabet=list(network.text_encoder.alphabet),
        sample_rate=config.preprocessing.sr,
        n_feats=front_end.n_feats,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        stride=frame_stride(network.model),
        normalizes=front_end.normalize == "utterance",
        causal=obstacle(front_end, network.model) is None,
        config={**config.raw, "data": {}},
    )
