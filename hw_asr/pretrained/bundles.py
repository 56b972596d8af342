"""Pretrained models by the names of `torchaudio.pipelines`: their layout, and their weights from the web."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import urljoin

import torch
from torch import Tensor, nn

from hw_asr.errors import UserError, nearest
from hw_asr.runtime.download import download
from hw_asr.runtime.optional import MissingPackageError, optional_import

BASE_URL = "https://download.pytorch.org/torchaudio/models/"
"""Where torchaudio publishes the weights; it publishes no checksums."""


class PretrainedError(UserError):
    """Weights of a pretrained model that are not what its name promises."""


class Layout(NamedTuple):
    """What a bundle name stands for."""

    encoder: nn.Module
    """`torchaudio.models.Wav2Vec2Model` without an output layer, weights not yet loaded."""
    address: str
    """Of the weights: their name below the base URL, or a whole URL, which MMS_FA has."""
    sample_rate: int
    normalize: bool
    """Whether the model expects waveforms of mean 0 and variance 1."""


def known_names() -> list[str]:
    """Return the names of the bundles with an encoder that reads waveforms."""
    pipelines = _pipelines()
    return sorted(name for name in dir(pipelines) if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle))


def load_layout(name: str) -> Layout:
    """Build the encoder of a bundle, with random weights.

    Raises ValueError for an unknown name, and when torchaudio is not installed.
    """
    pipelines = _pipelines()
    bundle = getattr(pipelines, name, None)
    if not isinstance(bundle, pipelines.Wav2Vec2Bundle):
        raise ValueError(f"bundle: unknown pretrained model {name!r}{nearest(name, known_names())}")
    models = importlib.import_module("torchaudio.models")
    make = models.wavlm_model if bundle._model_type == "WavLM" else models.wav2vec2_model
    encoder: nn.Module = make(**{**bundle._params, "aux_num_out": None})
    return Layout(encoder, bundle._path, round(bundle.sample_rate), bundle._normalize_waveform)


def load_weights_of(layout: Layout, directory: Path, base_url: str = BASE_URL) -> None:
    """Download the weights of a layout to `directory`, unless they are there, and load them.

    Raises DownloadError, and PretrainedError when the file does not hold the weights of this model.
    """
    name = layout.address.rpartition("/")[2]
    path = directory / name
    download(urljoin(base_url.rstrip("/") + "/", layout.address), path, description=name)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        own = {name: value for name, value in state.items() if not name.startswith("aux.")}
        layout.encoder.load_state_dict(own)
    except Exception as error:  # torch's reader raises many types for a damaged or different file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise PretrainedError(f"{path}: not the weights of this model ({reason}); delete it and run again") from error


def _pipelines() -> ModuleType:
    try:
        with optional_import("a pretrained model", "torchaudio", "torchaudio"):
            return importlib.import_module("torchaudio.pipelines")
    except MissingPackageError as error:
        raise ValueError(str(error)) from error
