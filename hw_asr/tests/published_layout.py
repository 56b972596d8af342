"""A checkpoint in the layout of the published ones: small random weights, with the objects that their program pickled.

The network is written with plain layers of torch for one utterance, so its logits are an independent reference.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

NUM_FEATS, NUM_CLASSES, CHANNELS, HIDDEN = 128, 28, 2, 6
NAME = "kaggle_deepspeech2_1+6_finetuning"
SECRET = "SECRET"


class Reference(NamedTuple):
    """An utterance's features (F, T) and logits (T', V)."""

    features: Tensor
    logits: Tensor


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv2d(1, CHANNELS, (41, 11), padding=(20, 5))
        self.block = nn.Sequential(convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU())


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = [CHANNELS * NUM_FEATS, 2 * HIDDEN, 2 * HIDDEN]
        self.rnn_layers = nn.ModuleList(nn.GRU(size, HIDDEN, bidirectional=True) for size in sizes)
        self.bn_layers = nn.ModuleList(nn.BatchNorm1d(2 * HIDDEN) for _ in sizes)


class Network(nn.Module):
    """DeepSpeech 2 for one utterance (F, T) without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn_block, self.gru_block = Convolutions(), Recurrence()
        self.linear = nn.Linear(2 * HIDDEN, NUM_CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        rows = self.cnn_block.block(features[None, None])[0].flatten(0, 1).T
        for recur, normalize in zip(self.gru_block.rnn_layers, self.gru_block.bn_layers, strict=True):
            rows = normalize(recur(rows)[0])
        logits: Tensor = self.linear(rows)
        return logits


def write_published(directory: Path) -> list[Reference]:
    """Write model_best.pth and config.json; return what the network computes for some features."""
    torch.manual_seed(0)
    network = Network()
    for name, values in network.state_dict().items():  # no trivial statistics
        if name.endswith(("running_var", "bn_layers.0.weight")):
            values.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            values.normal_()
    config = _config()
    pickled = {f"hw_asr.{module}": types.ModuleType(f"hw_asr.{module}") for module in ("utils", "utils.parse_config")}
    for name in ("ConfigParser", "ServiceAccountCredentials"):
        setattr(pickled["hw_asr.utils.parse_config"], name, type(name, (), {"__module__": "hw_asr.utils.parse_config"}))
    program: Any = pickled["hw_asr.utils.parse_config"]
    parser, credentials = program.ConfigParser(), program.ServiceAccountCredentials()
    credentials.token = SECRET
    parser.__dict__.update(_config=config, resume=directory / "model_best.pth", _external_storage=credentials)
    state = {
        "arch": "DeepSpeech2", "epoch": 57, "state_dict": network.state_dict(),
        "optimizer": torch.optim.Adam(network.parameters(), lr=0.0006).state_dict(), "monitor_best": 0.5,
        "config": parser,
    }  # fmt: skip
    with mock.patch.dict(sys.modules, pickled):
        torch.save(state, directory / "model_best.pth")
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.no_grad():
        features = [torch.randn(NUM_FEATS, size) for size in (40, 23, 31)]
        return [Reference(each, network.eval()(each)) for each in features]


def _config() -> dict[str, Any]:
    def split(part: str) -> dict[str, Any]:
        datasets = [{"type": "LibrispeechDataset", "args": {"part": part}}]
        return {"batch_size": 20, "num_workers": 0, "datasets": datasets}

    storage = {"storage_folder_id": "1XmURU5KBdxDcP_zFHbe06FSThHYqVy_S", "client_credentials_filepath": "secrets.json"}
    return {
        "name": NAME, "n_gpu": 1,
        "preprocessing": {"sr": 16000, "spectrogram": {"type": "MelSpectrogram", "args": {}}, "log_spec": True},
        "augmentations": {"wave": [], "spectrogram": []},
        "arch": {
            "type": "DeepSpeech2",
            "args": {
                "n_feats": NUM_FEATS, "cnn_config": {"output_channels": [CHANNELS], "filters": [[41, 11]]},
                "gru_config": {"hidden_dims": [HIDDEN] * 3, "bidirectional": True},
            },
        },
        "data": {"train": split("train-clean-100"), "val": split("test-clean")},
        "optimizer": {"type": "Adam", "args": {"lr": 0.0006}},
        "loss": {"type": "CTCLoss", "args": {}},
        "metrics": [{"type": "ArgmaxWERMetric", "args": {"name": "WER (argmax)"}}],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 1000, "gamma": 0.8}},
        "trainer": {
            "epochs": 200, "log_step": 100, "save_dir": "saved/", "save_period": 1, "verbosity": 2,
            "external_storage": {"type": "GDriveStorage", "args": storage}, "monitor": "min val_loss",
            "early_stop": 100, "visualize": "wandb", "wandb_project": "asr_project", "len_epoch": 400,
            "grad_norm_clip": 400, "beam_size": 10,
        },
    }  # fmt: skip
