"""From a checkpoint's weights to a network of torch on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_asr.config import ExperimentConfig
from hw_asr.experiment.network import load_network
from hw_asr.recognition.waveform_model import TorchWaveformModel
from hw_asr.runtime.devices import choose_device, set_threads


def make_torch_model(
    path: Path, checkpoint: Mapping[str, Any], config: ExperimentConfig, device: str | None, num_threads: int | None
) -> TorchWaveformModel:
    """Build the network of a config with a checkpoint's weights; see `loading.make_waveform_model`."""
    chosen = choose_device(device, config.n_gpu)
    if num_threads is not None:
        set_threads(num_threads, 0)
    network = load_network(config, chosen, checkpoint["state_dict"], path)
    return TorchWaveformModel(network, config.preprocessing.sr, chosen)
