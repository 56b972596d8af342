"""Faults between parts of a config that are sound by themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.config import ExperimentConfig, Spec
from hw_asr.config.arguments import convert
from hw_asr.errors import nearest
from hw_asr.experiment import components
from hw_asr.metrics import SplitMetric
from hw_asr.training.monitor import Monitor, MonitorError
from hw_asr.types import Metric, TextEncoder

if TYPE_CHECKING:
    from torch import nn

_UNUSABLE_OPTIMIZERS = {
    "LBFGS": "computes the loss several times in a step, which training does not support",
    "SparseAdam": "needs sparse gradients, which no model has",
}
"""Optimisers of torch that can be made, but not used."""


def freeze_faults(config: ExperimentConfig, model: nn.Module | None) -> list[str]:
    """Return the faults of `trainer.transfer`; without a model, the names in `freeze` are not checked."""
    from hw_asr.checkpoints.weights import belongs_to, check_parts

    transfer, path = config.trainer.transfer, "trainer.transfer"
    faults = []
    if transfer.unfreeze_after_epochs is not None and not transfer.freeze:
        faults.append(f"{path}.unfreeze_after_epochs: has no effect without {path}.freeze")
    if model is not None and transfer.freeze:
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        faults += check_parts(transfer.freeze, [name for name, _ in model.named_parameters()], f"{path}.freeze")
        if all(belongs_to(name, transfer.freeze) for name in trained):
            faults.append(f"{path}.freeze: leaves no parameter of the model to train")
    return faults


def size_faults(config: ExperimentConfig, n_feats: int, alphabet: Sequence[str]) -> list[str]:
    """Return where the sizes in `arch` differ from those of the features and of the alphabet."""
    faults = []
    args = config.arch.get("args", {})
    if args.get("n_feats", n_feats) != n_feats:
        faults.append(f"arch.args.n_feats: {args['n_feats']}, but preprocessing.spectrogram gives {n_feats} features")
    if args.get("n_class", len(alphabet)) != len(alphabet):
        faults.append(
            f"arch.args.n_class: {args['n_class']}, but text_encoder has {len(alphabet)} classes, the blank included"
        )
    return faults


def rate_faults(config: ExperimentConfig, model: nn.Module | None) -> list[str]:
    """Return whether a model whose weights are for one sample rate gets another."""
    rate, given = getattr(model, "sample_rate", None), config.preprocessing.sr
    if not isinstance(rate, int) or rate == given:
        return []
    return [f"preprocessing.sr: {given} Hz, but {config.arch['type']} needs {rate} Hz; recordings are resampled to it"]


def metric_faults(metric_names: Sequence[str]) -> list[str]:
    """Return which values would overwrite each other, given the names of the values of all metrics."""
    counts = Counter(("loss", *metric_names))
    return [f"metrics: two are named {name!r}; set args.name" for name, count in counts.items() if count > 1]


def monitor_faults(config: ExperimentConfig, metric_names: list[str]) -> list[str]:
    """Return what is wrong with `trainer.monitor`, given the names of the values of all metrics."""
    try:
        monitor = Monitor.parse(config.trainer.monitor)
    except MonitorError as error:
        return [f"trainer.monitor: {error}"]
    splits = [name for name in config.data if name != "train"]
    if monitor is None and config.trainer.early_stop is not None:
        return ["trainer.early_stop: needs trainer.monitor, which is off; remove one of them"]
    known = [SplitMetric(split, name).key for split in splits for name in ("loss", *metric_names)]
    if monitor is not None and monitor.key not in known:
        return [f"trainer.monitor: {monitor.key!r} is not a metric this config produces{nearest(monitor.key, known)}"]
    return []


def optimizer_faults(spec: Spec) -> list[str]:
    """Return why an optimiser that can be made cannot be used."""
    kind, args = spec["type"], spec.get("args", {})
    faults = [
        f"optimizer.args.{name}: expected a finite number, got {value}"
        for name, value in args.items()
        if name in ("lr", "weight_decay", "eps") and value == math.inf
    ]
    if kind in _UNUSABLE_OPTIMIZERS:
        faults.append(f"optimizer.type: {kind} {_UNUSABLE_OPTIMIZERS[kind]}; use another, such as AdamW")
    if args.get("differentiable") and "module" not in spec:
        faults.append("optimizer.args.differentiable: is for gradients of a step, which cannot train; remove this key")
    return faults


def plateau_faults(config: ExperimentConfig) -> list[str]:
    """Return how ReduceLROnPlateau disagrees with the trainer, whose monitored value it watches."""
    monitor, faults = config.trainer.monitor, []
    mode, other = (config.lr_scheduler or {}).get("args", {}).get("mode"), {"min": "max", "max": "min"}
    if monitor == "off":
        faults.append("lr_scheduler.type: ReduceLROnPlateau needs trainer.monitor, which is off")
    elif mode is not None and monitor.startswith(f"{other[mode]} "):
        faults.append(f"lr_scheduler.args.mode: {mode!r}, but trainer.monitor is {monitor!r}; remove this key")
    if config.trainer.scheduler_step == "step":
        faults.append("trainer.scheduler_step: ReduceLROnPlateau advances per epoch; remove this key")
    return faults


def decoder_faults(config: ExperimentConfig, encoder: TextEncoder, metrics: list[Metric]) -> list[str]:
    """Return which decoders the metrics name but the config lacks or repeats, and which language models are missing."""
    specs = components.decoder_specs(config, encoder, config.trainer.beam_size)
    faults = [
        f"metrics: {metric.name!r} scores decoder {metric.decoder!r}, not in `decoders`{nearest(metric.decoder, specs)}"
        for metric in metrics
        if metric.decoder not in specs
    ]
    counts = Counter(spec["type"] for spec in config.decoders or [])
    faults += [f"decoders: two have the type {name!r}; remove one" for name, count in counts.items() if count > 1]
    for index, spec in enumerate(config.decoders or []):
        path = spec.get("args", {}).get("language_model")
        if isinstance(path, str) and not convert(Path, path).is_file():
            faults.append(f"decoders[{index}].args.language_model: {path}: no such file")
        if path is None and spec["type"] == "lm_beam_search" and not hasattr(encoder, "language_model_path"):
            faults.append(f"decoders[{index}].args.language_model: missing; expected a path to an ARPA or KenLM file")
    return faults
