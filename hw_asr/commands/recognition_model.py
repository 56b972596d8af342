"""The model of a command that recognises: the process is the command's own, so its settings are the config's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from hw_asr.config import ExperimentConfig
from hw_asr.experiment.checkpoint_config import EXPORTED
from hw_asr.recognition import loading
from hw_asr.recognition.waveform_model import WaveformModel


def make_model(
    options: argparse.Namespace, checkpoint: Mapping[str, Any], config: ExperimentConfig, num_threads: int | None = None
) -> WaveformModel:
    """Make the model of `--resume` on `--device`, after setting torch's numerics; see `loading.make_waveform_model`."""
    if EXPORTED not in checkpoint:
        from hw_asr.runtime.devices import set_numerics

        set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
    return loading.make_waveform_model(options.resume, checkpoint, config, options.device, num_threads)
