"""The length of a run, and the learning-rate schedule of a config made for it."""

from __future__ import annotations

import logging

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hw_asr.config import ConfigError, ExperimentConfig, TrainerConfig
from hw_asr.config.registry import SCHEDULERS
from hw_asr.experiment import components
from hw_asr.experiment.schedule_length import given_length
from hw_asr.training.monitor import Monitor
from hw_asr.training.schedule import Schedule
from hw_asr.training.trainer import TrainerSettings

logger = logging.getLogger(__name__)


def run_settings(trainer: TrainerConfig, batches_per_epoch: int) -> TrainerSettings:
    """Return how long a run takes and what ends it."""
    return TrainerSettings(
        epochs=trainer.epochs,
        batches_per_epoch=batches_per_epoch,
        accumulate_grad_steps=trainer.accumulate_grad_steps,
        monitor=Monitor.parse(trainer.monitor),
        early_stop=trainer.early_stop,
        max_bad_steps=trainer.max_bad_steps,
    )


def build_schedule(config: ExperimentConfig, optimizer: torch.optim.Optimizer, settings: TrainerSettings) -> Schedule:
    """Return the schedule of a run of this length, at step 0; raises ConfigError where this length is impossible."""
    length = _length(config, settings)
    try:
        scheduler = components.build_scheduler(config, optimizer, length)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError([f"lr_scheduler.args: {error}, in a run of {length} steps or epochs"]) from error
    return Schedule(scheduler, per_epoch=_is_per_epoch(config))


def check_schedule(config: ExperimentConfig, settings: TrainerSettings) -> None:
    """Raise ConfigError when OneCycleLR is given fewer steps than the run takes; warn of a length that is far off."""
    given, steps = given_length(config.lr_scheduler or {}), _length(config, settings)
    if given is None:
        return
    name, length = given
    unit, key = "epochs" if _is_per_epoch(config) else "steps", f"lr_scheduler.args.{name}"
    if name == "total_steps" and length < steps:
        raise ConfigError([f'{key}: {length}, but the run takes {steps} {unit}; set it to "auto": --set {key}=auto'])
    if not 0.5 * steps <= length <= 2 * steps:
        logger.warning(
            '%s is %d, but the run takes %d %s; with "auto" the schedule fits the run: --set %s=auto',
            key, length, steps, unit, key,
        )  # fmt: skip


def _length(config: ExperimentConfig, settings: TrainerSettings) -> int:
    """Return how often the schedule of a whole run advances."""
    return settings.epochs * (1 if _is_per_epoch(config) else settings.steps_per_epoch)


def _is_per_epoch(config: ExperimentConfig) -> bool:
    """Whether the schedule of a config advances once per epoch instead of once per step."""
    setting = config.trainer.scheduler_step
    if setting is not None or config.lr_scheduler is None:
        return setting == "epoch"
    factory = SCHEDULERS.find(config.lr_scheduler)
    return isinstance(factory, type) and issubclass(factory, ReduceLROnPlateau)
