"""Random networks that can recognise live audio, random ways to cut a recording, and their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from hw_asr.config import parse
from hw_asr.experiment.network import Network, make_network
from hw_asr.models.normalization import FrameBatchNorm


def random_network(generator: np.random.Generator, alphabet: str = "ab ", **preprocessing: Any) -> Network:
    """Return a network of random shape whose weights, statistics and running averages are random, too."""
    return make_random(random_config(generator, alphabet, **preprocessing))


def random_config(generator: np.random.Generator, alphabet: str = "ab ", **preprocessing: Any) -> dict[str, Any]:
    """Return the config of a network of random shape."""
    number = generator.integers
    n_fft = int(generator.choice([16, 31, 64, 200]))
    stft = {
        "n_fft": n_fft, "hop_length": int(number(5, 90)), "n_mels": int(number(3, 9)), "f_max": 4000,
        "center": bool(number(0, 2)), "pad_mode": str(generator.choice(["reflect", "constant"])),
    }  # fmt: skip
    layers = int(number(1, 3))
    cnn = {
        "output_channels": [int(number(1, 4)) for _ in range(layers)],
        "filters": [[int(generator.choice([1, 3, 5])), int(generator.choice([1, 3, 5, 11]))] for _ in range(layers)],
        "stride": [[int(number(1, 3)), int(number(1, 4))] for _ in range(layers)],
    }
    hidden = [int(number(2, 9)) for _ in range(number(1, 4))]
    arch: dict[str, Any] = {"cnn_config": cnn, "gru_config": {"hidden_dims": hidden, "use_batch_norm": bool(number(2))}}
    if number(0, 3):
        arch["lookahead_config"] = {"future_time": int(number(1, 7))}
    if len(hidden) > 1 and number(0, 2):
        arch |= {"intermediate_layers": [1], "self_conditioning": bool(number(0, 2))}
    return {
        "name": "random",
        "preprocessing": {
            "sr": 8000, "spectrogram": {"type": "MelSpectrogram", "args": stft},
            "normalize": str(generator.choice(["none", "global"])), **preprocessing,
        },
        "arch": {"type": "DeepSpeech2", "args": arch},
        "text_encoder": {"type": "CTCCharTextEncoder", "args": {"alphabet": list(alphabet)}},
        "data": {"train": {"batch_size": 1, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "none"}}]}},
        "optimizer": {"type": "Adam"},
        "trainer": {"epochs": 1, "monitor": "off", "seed": int(number(0, 1000))},
    }  # fmt: skip


def make_random(config: dict[str, Any]) -> Network:
    """Return the network of a config with random weights."""
    network = make_network(parse(config), torch.device("cpu"))
    _randomize(network)
    network.model.eval()
    return network


def _randomize(network: Network) -> None:
    with torch.no_grad():
        for module in network.model.modules():
            if isinstance(module, FrameBatchNorm):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        if network.front_end.statistics is not None:
            nn.init.normal_(network.front_end.statistics.mean, -5.0)
            nn.init.uniform_(network.front_end.statistics.deviation, 0.5, 2.0)
        network.model.linear.weight.mul_(8.0)  # type: ignore[union-attr,operator]


def random_cuts(generator: np.random.Generator, length: int) -> list[int]:
    """Return where to cut `length` samples: pieces of one size, or of many sizes, some of them empty."""
    kind = int(generator.integers(0, 5))
    if kind == 0:
        return []
    if kind == 1:
        return list(range(0, length, int(generator.integers(50, 200))))
    if kind == 2:
        return sorted(generator.integers(0, length + 1, 40).tolist())
    if kind == 3:
        return list(range(1, min(length, 700)))  # one sample at a time
    return np.cumsum(generator.choice([1, 10, 160, 3000], 30)).clip(max=length).tolist()
