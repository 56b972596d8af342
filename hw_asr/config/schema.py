"""The sections of an experiment's config as dataclasses, with types, defaults and meanings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hw_asr.config.arguments import check_call, convert
from hw_asr.errors import ConfigError

Spec = dict[str, Any]
"""`{"type", "args", "module"?}`: what a registry turns into an object."""
RawConfig = Mapping[str, Any]
"""A config as JSON values, before it is parsed."""


@dataclass(frozen=True)
class Preprocessing:
    """`preprocessing`: recordings to features."""

    sr: int = 16000
    """Sampling rate to which all recordings are resampled, Hz."""
    spectrogram: Spec = field(default_factory=lambda: {"type": "MelSpectrogram", "args": {}})
    log_spec: bool = True
    """Take log(x + 1e-5)."""
    normalize: Literal["none", "utterance", "global"] = "none"
    """Mean 0 and variance 1 of each feature: over an `utterance`, or `global`: over the train split, measured once."""
    max_audio_hours: float = 12.0
    """Longer recordings are refused; an hour takes about 230 MB of memory at 16 kHz."""


@dataclass(frozen=True)
class Augmentations:
    """`augmentations`: applied in this order, to the train split only."""

    wave: list[Spec] = field(default_factory=list)
    spectrogram: list[Spec] = field(default_factory=list)


@dataclass(frozen=True)
class Split:
    """`data.SPLIT`: the datasets of a split, and their batches."""

    datasets: list[Spec]
    batch_size: int | None = None
    batch_sampler: Spec | None = None
    num_workers: int = 0


@dataclass(frozen=True)
class Transfer:
    """`trainer.transfer`: parts of the model in fine-tuning, by the beginning of their weights' names up to a dot."""

    allow: list[str] = field(default_factory=list)
    """Parts that start with new weights and may differ from the checkpoint's (`train.py -c CONFIG -r CKPT`)."""
    freeze: list[str] = field(default_factory=list)
    """Parts that are not trained, in any run; their batch normalisation uses its running statistics."""
    unfreeze_after_epochs: int | None = None
    """Train the parts in `freeze` as well after so many epochs; null: never."""


@dataclass(frozen=True)
class TrainerConfig:
    """`trainer`: the training run."""

    epochs: int
    len_epoch: int | None = None
    """Batches between two evaluations; null: one pass over the training data."""
    save_dir: Path = Path("saved")
    save_period: int = 1
    """Epochs between two `checkpoint-epochN.pth`."""
    keep_last: int | None = 3
    """How many `checkpoint-epochN.pth` to keep; null keeps all."""
    keep_every: int | None = None
    """Keep every so many epochs' `checkpoint-epochN.pth` permanently."""
    save_minutes: float | None = 10.0
    """Minutes between two writes of `last.pth` within an epoch; null: no time limit."""
    save_steps: int | None = None
    """Optimiser steps between two writes of `last.pth` within an epoch."""
    verbosity: Literal[0, 1, 2] = 2
    """0: warnings, 1: a table per epoch, 2: also a line per `log_step`."""
    monitor: str = "min val_loss"
    """`min|max SPLIT_METRIC` that selects `model_best.pth`, or `off`."""
    early_stop: int | None = None
    """Evaluations without improvement of `monitor` after which the run ends."""
    visualize: str | list[str] = "none"
    """Writers in addition to metrics.jsonl: wandb, tensorboard, none."""
    wandb_project: str | None = None
    wandb_run: str | None = None
    """Name of the run, in W&B and as directory; null: a time stamp."""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    log_step: int = 50
    """Optimiser steps between two log lines; epochs shorter than that are logged at their end."""
    log_predictions: int = 10
    """Utterances in the table of predictions."""
    log_histograms: bool = False
    beam_size: int = 10
    """Width of the beam search that metrics and tables use during training."""
    grad_norm_clip: float | None = None
    accumulate_grad_steps: int = 1
    """Batches per optimiser step; their gradients are averaged over utterances."""
    scheduler_step: Literal["step", "epoch"] | None = None
    """When the schedule advances; null: per optimiser step, ReduceLROnPlateau per epoch with the monitored value."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = True
    """Let CUDA multiply float32 matrices as TF32."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights and evaluate that one."""
    max_bad_steps: int = 20
    """Non-finite or out-of-memory steps in a row after which the run stops."""
    seed: int = 0
    deterministic: bool = False
    """Use only deterministic kernels. On a CPU, runs are reproducible without this."""
    num_threads: int | None = None
    """CPU threads of the training process; null: the available cores minus the workers."""
    transfer: Transfer = Transfer()
    external_storage: Spec | None = None
    export_minutes: float = 15.0
    """Minutes between two exports of `last.pth` to the external storage."""
    heartbeat_seconds: float = 30.0
    """Seconds between two status updates in the external storage, which tell other machines that the run is active."""


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment; `raw` is its JSON, after overlay and overrides."""

    name: str
    arch: Spec
    data: dict[str, Split]
    root_dir: Path
    trainer: TrainerConfig
    optimizer: Spec
    preprocessing: Preprocessing
    augmentations: Augmentations
    text_encoder: Spec
    loss: Spec
    metrics: list[Spec]
    lr_scheduler: Spec | None
    decoders: list[Spec] | None
    n_gpu: int
    raw: dict[str, Any]


@dataclass(frozen=True)
class _Sections:
    """The top level of a config file; `data` is checked separately, since its splits have any names."""

    name: str
    arch: Spec
    data: dict[str, Any]
    trainer: TrainerConfig
    optimizer: Spec
    preprocessing: Preprocessing = Preprocessing()
    augmentations: Augmentations = Augmentations()
    text_encoder: Spec = field(default_factory=lambda: {"type": "CTCCharTextEncoder", "args": {}})
    loss: Spec = field(default_factory=lambda: {"type": "CTCLoss", "args": {}})
    metrics: list[Spec] = field(default_factory=list)
    lr_scheduler: Spec | None = None
    decoders: list[Spec] | None = None
    n_gpu: int = 1


def parse(raw: RawConfig) -> ExperimentConfig:
    """Check the keys and types of all sections and return them with their defaults; specs are not checked.

    Raises ConfigError with every fault.
    """
    given = {key: value for key, value in raw.items() if key != "$schema"}  # editors read that key
    faults = check_call(_Sections, given, "") + _check_data(raw.get("data"))
    if faults:
        raise ConfigError(faults)
    sections: _Sections = convert(_Sections, given)
    splits = {name: convert(Split, split) for name, split in sections.data.items() if name != "root_dir"}
    values = {name: getattr(sections, name) for name in _Sections.__dataclass_fields__ if name != "data"}
    root_dir = convert(Path, sections.data.get("root_dir", "data"))
    return ExperimentConfig(**values, data=splits, root_dir=root_dir, raw=copy.deepcopy(dict(raw)))


def _check_data(data: object) -> list[str]:
    if not isinstance(data, Mapping):
        return []  # reported with the sections
    faults = []
    for name, split in data.items():
        if name == "root_dir":
            if not isinstance(split, str):
                faults.append(f"data.root_dir: expected a path, got {split!r}")
            continue
        faults += check_call(Split, split, f"data.{name}")
        if isinstance(split, Mapping) and not split.get("datasets", True):
            faults.append(f"data.{name}.datasets: empty; at least one dataset is needed")
    return faults
