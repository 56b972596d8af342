"""Small random networks, and an exported model beside its checkpoint, for tests of export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hw_asr.config import ExperimentConfig, parse
from hw_asr.experiment.network import Network, make_network
from hw_asr.models.normalization import FrameBatchNorm

MEL = {"type": "MelSpectrogram", "args": {"n_mels": 20, "n_fft": 256, "hop_length": 80}}


def make_config(arch: Mapping[str, Any], **preprocessing: Any) -> ExperimentConfig:
    """Return a config of a model, by default on mel bands."""
    return parse(
        {
            "name": "small",
            "preprocessing": {"spectrogram": MEL, **preprocessing},
            "arch": arch,
            "data": {},
            "optimizer": {"type": "SGD"},
            "trainer": {"epochs": 1},
        }
    )


def deepspeech2(**changes: Any) -> dict[str, Any]:
    """Return the config of a small DeepSpeech2."""
    args = {
        "cnn_config": {"output_channels": [4, 6], "filters": [[11, 5], [7, 3]], "stride": [[2, 2], [1, 2]]},
        "gru_config": {"hidden_dims": [12, 10], "bidirectional": True},
    }
    return {"type": "DeepSpeech2", "args": {**args, **changes}}


def random_network(config: ExperimentConfig) -> Network:
    """Make a network whose batch normalisations and feature statistics are not those of initialisation."""
    network = make_network(config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.model.modules():
            if isinstance(module, FrameBatchNorm):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(generator=generator)
        if network.front_end.statistics is not None:
            network.front_end.statistics.mean.normal_(generator=generator)
            network.front_end.statistics.deviation.uniform_(0.5, 2.0, generator=generator)
    network.model.eval()
    return network
