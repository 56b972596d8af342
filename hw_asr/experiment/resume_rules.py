"""Continuing a run: what may differ from the checkpoint it goes on from, and what that means."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.training.progress import Progress

logger = logging.getLogger(__name__)

# What decides the meaning of the saved weights, optimiser state and place in the data.
_FIXED = (
    "arch", "text_encoder", "preprocessing", "optimizer.type", "lr_scheduler", "data.train.datasets",
    "data.train.batch_size", "data.train.batch_sampler", "trainer.accumulate_grad_steps", "trainer.ema_decay",
    "trainer.precision", "trainer.scheduler_step",
)  # fmt: skip
_REMEDY = "undo the change, or start a new run from these weights with -c CONFIG -r CHECKPOINT"


def compare(config: ExperimentConfig, saved: Any, source: Path, num_steps: int) -> None:
    """Say in what a run's config differs from its checkpoint's; refuse what would not be the same run.

    After 0 steps there is nothing yet that could not be the same.

    Raises ConfigError naming each key with both values.
    """
    if not isinstance(saved, Mapping):
        return
    changed = list(_differences(saved, config.raw))
    refused = [
        f"{path}: {_short(old)} when {source} was written, now {_short(new)}; {_REMEDY}"
        for path, old, new in changed
        if any(path == key or path.startswith(f"{key}.") for key in _FIXED) or _is_scheduled(path, config)
    ]
    if refused and num_steps > 0:
        raise ConfigError(refused, "resume")
    for path, old, new in changed:
        logger.warning("config %s was %s when %s was written; now %s", path, _short(old), source, _short(new))


def apply_changes(config: ExperimentConfig, saved: Any, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Let what `compare` allowed take effect, where the restored state says otherwise."""
    if not isinstance(saved, Mapping):
        return
    now, before = config.optimizer.get("args", {}), _at(saved, "optimizer.args") or {}
    for name, value in now.items():
        if value != before.get(name):
            for group in optimizer.param_groups:
                group[name] = tuple(value) if isinstance(value, list) else value
    if (_at(saved, "trainer.monitor") or config.trainer.monitor) != config.trainer.monitor:
        progress.best, progress.epochs_without_improvement = None, 0


def _is_scheduled(path: str, config: ExperimentConfig) -> bool:
    return path == "optimizer.args.lr" and config.lr_scheduler is not None


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """List the paths at which two configs differ, with both values; lists are compared whole."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        return [each for key in keys for each in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if old == new else [(path, old, new)]


def _at(raw: Any, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
