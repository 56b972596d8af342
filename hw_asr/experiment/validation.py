"""Everything that can be known to be wrong with a config before anything is made, all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hw_asr.config import ConfigError, ExperimentConfig, Split, parse, registry
from hw_asr.config.arguments import nearest
from hw_asr.config.registry import Registry
from hw_asr.experiment import components
from hw_asr.metrics import SplitMetric
from hw_asr.training.monitor import Monitor, MonitorError

_SINGLE: dict[str, Registry[Any]] = {
    "arch": registry.MODELS,
    "text_encoder": registry.TEXT_ENCODERS,
    "optimizer": registry.OPTIMIZERS,
    "loss": registry.LOSSES,
    "lr_scheduler": registry.SCHEDULERS,
    "preprocessing.spectrogram": registry.SPECTROGRAMS,
    "trainer.external_storage": registry.STORAGES,
}
_TRAINING_ONLY = ("augmentations", "loss", "lr_scheduler", "metrics", "optimizer")
_TRAINER_KEYS_OF_RECOGNITION = ("beam_size", "seed")
_POSITIVE = (
    "epochs", "len_epoch", "save_period", "keep_last", "keep_every", "save_steps", "early_stop", "log_step",
    "beam_size", "accumulate_grad_steps", "max_bad_steps",
)  # fmt: skip
_LISTS: dict[str, Registry[Any]] = {
    "metrics": registry.METRICS,
    "decoders": registry.DECODERS,
    "augmentations.wave": registry.WAVE_AUGMENTATIONS,
    "augmentations.spectrogram": registry.SPECTROGRAM_AUGMENTATIONS,
}


def validate(raw: Mapping[str, Any], source: str = "config", *, training: bool = True) -> ExperimentConfig:
    """Return the parsed config; without `training`, sections that only training uses are neither read nor built.

    Raises ConfigError listing every fault with its path: keys and types, names and arguments of components, values
    their constructors refuse, and parts that do not fit each other. Nothing is created, downloaded or written.
    """
    raw = raw if training else for_recognition(raw)
    faults: list[str] = []
    config = None
    try:
        config = parse(raw)
    except ConfigError as error:
        faults += error.faults
    for kind, spec, path in specs(raw):
        found = kind.check(spec, path, components.PROVIDED.get(kind.kind, ()))
        faults += [fault for fault in found if fault not in faults]
    if config is not None:
        faults += _split_faults(config, training)
        # Constructors are only tried when what they get is known to be well-formed.
        faults += _construction_faults(config, training) if not faults else []
    if faults or config is None:
        raise ConfigError(faults, source)
    return config


def for_recognition(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without its training sections; a placeholder stands for the optimizer, which is required."""
    kept = {key: value for key, value in raw.items() if key not in _TRAINING_ONLY}
    trainer = raw.get("trainer")
    settings = trainer if isinstance(trainer, Mapping) else {}
    used = {key: settings[key] for key in _TRAINER_KEYS_OF_RECOGNITION if key in settings}
    return {**kept, "optimizer": {"type": "SGD"}, "trainer": {"epochs": 1, **used}}


def specs(raw: Mapping[str, Any]) -> Iterator[tuple[Registry[Any], Any, str]]:
    """Yield each spec that is where one belongs, with its registry and path."""
    for path, kind in _SINGLE.items():
        spec = _at(raw, path)
        if isinstance(spec, Mapping):
            yield kind, spec, path
    for path, kind in _LISTS.items():
        for index, spec in enumerate(_items(_at(raw, path))):
            if isinstance(spec, Mapping):
                yield kind, spec, f"{path}[{index}]"
    for name, split in (_at(raw, "data") or {}).items() if isinstance(_at(raw, "data"), Mapping) else ():
        if not isinstance(split, Mapping):
            continue
        for index, spec in enumerate(_items(split.get("datasets"))):
            if isinstance(spec, Mapping):
                yield registry.DATASETS, spec, f"data.{name}.datasets[{index}]"
        if isinstance(split.get("batch_sampler"), Mapping):
            yield registry.SAMPLERS, split["batch_sampler"], f"data.{name}.batch_sampler"


def _split_faults(config: ExperimentConfig, training: bool) -> list[str]:
    faults = []
    if training and "train" not in config.data:
        faults.append(f"data.train: missing; splits given: {', '.join(config.data) or 'none'}")
    for name, split in config.data.items():
        faults += [f"data.{name}{fault}" for fault in _batching_faults(split)]
    for key in _POSITIVE:
        value = getattr(config.trainer, key)
        if value is not None and value < 1:
            faults.append(f"trainer.{key}: expected a positive integer, got {value}")
    for key in ("save_minutes", "grad_norm_clip"):
        value = getattr(config.trainer, key)
        if value is not None and not value > 0:
            faults.append(f"trainer.{key}: expected a positive number, got {value}")
    decay = config.trainer.ema_decay
    if decay is not None and not 0 < decay < 1:
        faults.append(f"trainer.ema_decay: expected a number in (0, 1), such as 0.999, got {decay}")
    writers = config.trainer.visualize
    for name in [writers] if isinstance(writers, str) else writers:
        if name not in registry.WRITERS.names():
            faults.append(f"trainer.visualize: unknown writer {name!r}{nearest(name, registry.WRITERS.names())}")
    return faults


def _batching_faults(split: Split) -> Iterator[str]:
    if split.batch_size is not None and split.batch_sampler is not None:
        yield ": batch_size and batch_sampler exclude each other; remove one"
    if split.batch_size is None and split.batch_sampler is None:
        yield ": batch_size or batch_sampler is needed"
    if split.batch_size is not None and split.batch_size < 1:
        yield f".batch_size: expected a positive integer, got {split.batch_size}"
    if split.num_workers < 0:
        yield f".num_workers: expected 0 or more, got {split.num_workers}"


def _construction_faults(config: ExperimentConfig, training: bool) -> list[str]:
    """Make what is cheap to make; the model without memory for its weights."""
    faults: list[str] = []
    encoder = _try(faults, "text_encoder.args", lambda: components.build_text_encoder(config))
    features = _try(faults, "preprocessing", lambda: components.build_features(config.preprocessing))
    metrics = _try(faults, "metrics", lambda: components.build_metrics(config)) or []
    if features is not None:
        _try(faults, "augmentations", lambda: components.build_augmentations(config, features.n_feats))
    if encoder is not None and features is not None:
        faults += _model_faults(config, features.n_feats, encoder.alphabet)
    for split in config.data:
        _try(faults, f"data.{split}.datasets", partial(components.build_corpora, config, split))
        sampler = config.data[split].batch_sampler
        if sampler is not None:
            provided = {"durations": [1.0], "seed": 0, "rank": 0, "world_size": 1}
            _try(faults, f"data.{split}.batch_sampler.args", partial(registry.SAMPLERS.build, sampler, **provided))
    if training:
        parameter = torch.nn.Linear(1, 1)
        optimizer = _try(faults, "optimizer.args", lambda: components.build_optimizer(config, parameter))
        if optimizer is not None:
            _try(faults, "lr_scheduler.args", lambda: components.build_scheduler(config, optimizer))
        faults += _monitor_faults(config, [name for metric in metrics for name in metric.names()])
    faults += _decoder_faults(config, encoder, metrics if training else [])
    return faults


def _model_faults(config: ExperimentConfig, n_feats: int, alphabet: Sequence[str]) -> list[str]:
    faults = []
    args = config.arch.get("args", {})
    if args.get("n_feats", n_feats) != n_feats:
        faults.append(f"arch.args.n_feats: {args['n_feats']}, but preprocessing.spectrogram gives {n_feats} features")
    if args.get("n_class", len(alphabet)) != len(alphabet):
        faults.append(
            f"arch.args.n_class: {args['n_class']}, but text_encoder has {len(alphabet)} classes, the blank included"
        )
    with torch.device("meta"):
        _try(faults, "arch.args", lambda: components.build_model(config, n_feats, len(alphabet)))
    return faults


def _monitor_faults(config: ExperimentConfig, metric_names: list[str]) -> list[str]:
    try:
        monitor = Monitor.parse(config.trainer.monitor)
    except MonitorError as error:
        return [f"trainer.monitor: {error}"]
    splits = [name for name in config.data if name != "train"]
    known = [SplitMetric(split, name).key for split in splits for name in ("loss", *metric_names)]
    if monitor is not None and monitor.key not in known:
        return [f"trainer.monitor: {monitor.key!r} is not a metric this config produces{nearest(monitor.key, known)}"]
    return []


def _decoder_faults(config: ExperimentConfig, encoder: Any, metrics: list[Any]) -> list[str]:
    if encoder is None:
        return []
    specs = components.decoder_specs(config, encoder, config.trainer.beam_size)
    faults = [
        f"metrics: {metric.name!r} scores decoder {metric.decoder!r}, not in `decoders`{nearest(metric.decoder, specs)}"
        for metric in metrics
        if hasattr(metric, "decoder") and metric.decoder not in specs
    ]
    for index, spec in enumerate(config.decoders or []):
        path = spec.get("args", {}).get("language_model")
        if isinstance(path, str) and not Path(path).is_file():
            faults.append(f"decoders[{index}].args.language_model: {path}: no such file")
        if path is None and spec["type"] == "lm_beam_search" and not hasattr(encoder, "language_model_path"):
            faults.append(f"decoders[{index}].args.language_model: missing; expected a path to an ARPA or KenLM file")
    return faults


def _try(faults: list[str], path: str, make: Callable[[], Any]) -> Any:
    """Return what `make` makes; what it refuses becomes a fault, and None is returned."""
    try:
        return make()
    except (ValueError, TypeError, RuntimeError, AssertionError, MemoryError, OverflowError) as error:
        faults.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return None


def _at(raw: Any, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
