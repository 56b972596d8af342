"""Tries every constructor whose arguments are well-formed; an error that it raises is a fault of the config."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hw_asr.config import ExperimentConfig
from hw_asr.config.partial import is_sound
from hw_asr.config.registry import (
    DATASETS,
    DECODERS,
    METRICS,
    SPECTROGRAM_AUGMENTATIONS,
    STORAGES,
    WAVE_AUGMENTATIONS,
)
from hw_asr.errors import UserError
from hw_asr.experiment import components
from hw_asr.experiment.consistency import (
    decoder_faults,
    freeze_faults,
    metric_faults,
    monitor_faults,
    optimizer_faults,
    plateau_faults,
    rate_faults,
    size_faults,
)
from hw_asr.types import Metric, TextEncoder

if TYPE_CHECKING:  # torch is imported where a network or an optimizer is built
    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler

T = TypeVar("T")


class _Attempts:
    """Collects errors of constructors. A constructor is called only if no known fault concerns its arguments."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known
        self.faults: list[str] = []

    def make(self, path: str, factory: Callable[[], T], needs: Sequence[str] = (), part: str = ".args") -> T | None:
        """Return the object, or None if it cannot be made; the error is reported at `path` + `part`."""
        if not all(is_sound(needed, self.known) for needed in (path, *needs)):
            return None
        try:
            return factory()
        except (
            ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError, AttributeError,
            MemoryError, ImportError, OSError, UserError,
        ) as error:  # fmt: skip
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.faults.append(f"{path}{part}: {reason}")
            return None


def construction_faults(config: ExperimentConfig, known: Sequence[str], *, training: bool, network: bool) -> list[str]:
    """Build all components, the model without allocating its weights; return the faults.

    `known` are the faults found before; components that they concern are not built. Without `network`, neither the
    front end nor the model is built.
    """
    attempts = _Attempts(known)
    encoder = attempts.make("text_encoder", lambda: components.build_text_encoder(config))
    n_feats = _make_features(attempts, config) if network else None
    metrics = [
        attempts.make(f"metrics[{index}]", partial(METRICS.build, spec)) for index, spec in enumerate(config.metrics)
    ]
    _make_augmentations(attempts, config, n_feats)
    _make_data(attempts, config)
    model = None
    if encoder is not None and n_feats is not None and is_sound("arch", known):
        model = _make_model(attempts, config, n_feats, encoder.alphabet)
        attempts.faults += rate_faults(config, model)
    made = [metric for metric in metrics if metric is not None]
    if training:
        attempts.faults += freeze_faults(config, model)
        attempts.make("loss", lambda: components.build_loss(config))
        storage = config.trainer.external_storage
        if storage is not None:  # making one connects to nothing
            attempts.make("trainer.external_storage", partial(STORAGES.build, storage))
        _make_optimizer(attempts, config, model)
        if len(made) == len(metrics) and is_sound("metrics", known):
            names = [name for metric in made for name in metric.names()]
            attempts.faults += metric_faults(names)
            attempts.faults += monitor_faults(config, names) if is_sound("trainer.monitor", known) else []
    if encoder is not None and is_sound("decoders", known):
        attempts.faults += decoder_faults(config, encoder, made if training else [])
        _make_decoders(attempts, config, encoder, made if training else [])
    return attempts.faults


def _make_features(attempts: _Attempts, config: ExperimentConfig) -> int | None:
    """Return the number of features; None if they cannot be made."""
    from hw_asr.experiment.network_limits import checked_features

    features = attempts.make("preprocessing", lambda: checked_features(config.preprocessing), part="")
    return None if features is None else features.n_feats


def _make_model(
    attempts: _Attempts, config: ExperimentConfig, n_feats: int, alphabet: Sequence[str]
) -> nn.Module | None:
    import torch

    from hw_asr.experiment.network_limits import limited_modules

    attempts.faults += size_faults(config, n_feats, alphabet)
    with torch.device("meta"), limited_modules():
        return attempts.make("arch", lambda: components.build_model(config, n_feats, len(alphabet)))


def _make_decoders(
    attempts: _Attempts, config: ExperimentConfig, encoder: TextEncoder, metrics: Sequence[Metric]
) -> None:
    """Try the constructors of our own decoders, which read nothing; others may be expensive."""
    provided = {"text_encoder": encoder, "language_model": Path()}
    for index, spec in enumerate(config.decoders or []):
        if "module" not in spec:
            build = partial(DECODERS.build, spec, **provided)
            attempts.make(f"decoders[{index}]", build, ["text_encoder"])
    used = components.training_decoder_specs(config, encoder, metrics)
    if config.decoders is None and "lm_beam_search" in used:
        attempts.make("text_encoder", partial(DECODERS.build, used["lm_beam_search"], **provided))


def _make_augmentations(attempts: _Attempts, config: ExperimentConfig, n_feats: int | None) -> None:
    rate = config.preprocessing.sr
    for index, spec in enumerate(config.augmentations.wave):
        build = partial(WAVE_AUGMENTATIONS.build, spec, sample_rate=rate)
        attempts.make(f"augmentations.wave[{index}]", build, ["preprocessing.sr"])
    for index, spec in enumerate(config.augmentations.spectrogram if n_feats is not None else ()):
        masking = partial(SPECTROGRAM_AUGMENTATIONS.build, spec, n_feats=n_feats)
        attempts.make(f"augmentations.spectrogram[{index}]", masking)


def _make_data(attempts: _Attempts, config: ExperimentConfig) -> None:
    from hw_asr.datasets.samplers import Shard

    for name, split in config.data.items():
        for index, spec in enumerate(split.datasets):
            corpus = partial(DATASETS.build, spec, root_dir=config.root_dir, sample_rate=config.preprocessing.sr)
            needs = ["data.root_dir", "preprocessing.sr"]
            attempts.make(f"data.{name}.datasets[{index}]", corpus, needs)
        if split.batch_sampler is not None:
            sampler = partial(components.build_batch_sampler, split.batch_sampler, Shard([1.0]))
            attempts.make(f"data.{name}.batch_sampler", sampler)


def _make_optimizer(attempts: _Attempts, config: ExperimentConfig, model: nn.Module | None) -> None:
    """Make optimizer and schedule for `model`, or for a placeholder."""
    import torch

    from hw_asr.experiment.optimizer import build_optimizer

    if model is None:
        model, config = (
            torch.nn.Linear(1, 1, device="meta"),
            replace(config, optimizer={**config.optimizer, "groups": []}),
        )
    trained = model
    any_optimizer = replace(config, optimizer={"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}})
    unusable = optimizer_faults(config.optimizer) if is_sound("optimizer", attempts.known) else []
    attempts.faults += unusable
    made = None if unusable else attempts.make("optimizer", lambda: build_optimizer(config, trained))
    optimizer = made or build_optimizer(any_optimizer, trained)  # to try the schedule with
    # The real length depends on the data; any length shows whether the other arguments are accepted.
    scheduler = attempts.make("lr_scheduler", lambda: _stepped(components.build_scheduler(config, optimizer, 1000)))
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    attempts.faults += plateau_faults(config) if plateau else []


def _stepped(scheduler: LRScheduler | None) -> LRScheduler | None:
    """Advance a schedule by a step, which shows some faults of its arguments first; return it."""
    import torch

    if scheduler is not None and not isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        with warnings.catch_warnings():  # torch expects a step of the optimiser before
            warnings.simplefilter("ignore", UserWarning)
            scheduler.step()
    return scheduler
