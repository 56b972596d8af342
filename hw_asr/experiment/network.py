"""The network that training and recognition share: front end, acoustic model, text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hw_asr.checkpoints.tensors import check_tensors
from hw_asr.checkpoints.weights import check_finite, check_weights, load_weights
from hw_asr.config import ExperimentConfig
from hw_asr.experiment import components
from hw_asr.features import FeatureStatistics, FrontEnd
from hw_asr.runtime.memory import explain_out_of_memory
from hw_asr.types import TextEncoder


@dataclass(frozen=True)
class Network:
    """Front end, acoustic model and text encoder."""

    front_end: FrontEnd
    model: nn.Module
    text_encoder: TextEncoder


def make_network(config: ExperimentConfig, device: torch.device) -> Network:
    """Build front end, model (initialised from `trainer.seed`) and text encoder.

    Raises MemoryExhaustedError for a model that is too large for the device.
    """
    text_encoder = components.build_text_encoder(config)
    front_end = components.build_features(config.preprocessing).to(device)
    torch.manual_seed(config.trainer.seed)
    with explain_out_of_memory("the model is too large for this device; lower the sizes in arch.args"):
        model = components.build_model(config, front_end.n_feats, len(text_encoder.alphabet)).to(device)
    _add_statistics(model, front_end.statistics)
    return Network(front_end, model, text_encoder)


def load_network(
    config: ExperimentConfig, device: torch.device, state_dict: Mapping[str, object], source: Path
) -> Network:
    """Build the network of a checkpoint and load its weights; memory is allocated only after all shapes agree.

    Raises CheckpointError naming `source` when the weights do not fit the config.
    """
    check_finite(check_fit(config, state_dict, source), source)
    network = make_network(config, device)
    load_weights(network.model, state_dict, source)
    return network


def check_fit(config: ExperimentConfig, state_dict: object, source: Path) -> dict[str, Tensor]:
    """Return the weights of a config's network, without building it.

    Raises CheckpointError naming `source` when the weights do not fit the config.
    """
    front_end = components.build_features(config.preprocessing)
    with torch.device("meta"):
        model = components.build_model(config, front_end.n_feats, len(components.build_text_encoder(config).alphabet))
    _add_statistics(model, front_end.statistics)
    return check_weights(model, check_tensors(state_dict, source), source)


def _add_statistics(model: nn.Module, statistics: FeatureStatistics | None) -> None:
    """Register the front end's statistics with the model, whose buffers checkpoints contain."""
    if statistics is not None:
        model.feature_statistics = statistics
