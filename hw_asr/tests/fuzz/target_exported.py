"""Fuzz target: exported models, from the check of the file to the log-probabilities of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hw_asr.exported.export import make_model
from hw_asr.exported.runtime import OnnxWaveformModel, read_exported
from hw_asr.tests.exported_case import make_config, random_network
from hw_asr.tests.fuzz.engine import Target
from hw_asr.text.encoder import CTCCharTextEncoder

ENCODER = CTCCharTextEncoder()


def _seeds() -> list[bytes]:
    config = make_config(
        {
            "type": "DeepSpeech2",
            "args": {
                "cnn_config": {"output_channels": 1, "filters": [3, 3], "stride": [2, 2]},
                "gru_config": {"hidden_dims": 2},
            },
        },
        spectrogram={"type": "Spectrogram", "args": {"n_fft": 4, "hop_length": 2}},
    )
    return [make_model(random_network(config), config).SerializeToString()]


def _parse(path: Path) -> None:
    model = OnnxWaveformModel(read_exported(path), ENCODER, num_threads=1)
    model.batch([np.zeros(50, np.float32), np.ones(9, np.float32)])


TARGET = Target(
    seeds=_seeds,
    parse=_parse,
    suffix=".onnx",
    tokens=(
        b"Pad",
        b"Expand",
        b"Range",
        b"GRU",
        b"Conv",
        b"com.microsoft",
        b"location",
        b"\x72",
        b"\x6a",
        b"\x0a",
        b"\x12",
    ),
)
