"""Rules for continuing a run with a changed config: which changes are refused, and how the others are applied."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.experiment.schedule_length import LENGTHS
from hw_asr.training.progress import Progress

logger = logging.getLogger(__name__)

# The saved weights, optimiser state and position in the data depend on these.
_FIXED = (
    "arch", "text_encoder", "preprocessing", "optimizer.type", "optimizer.groups", "data.train.datasets",
    "data.train.batch_size", "data.train.batch_sampler", "trainer.accumulate_grad_steps", "trainer.ema_decay",
    "trainer.precision",
)  # fmt: skip
_MEASURED = ("preprocessing", "data.train.datasets")
_SCHEDULE = ("lr_scheduler", "trainer.scheduler_step", "optimizer.args.lr")
_REMEDY = "undo the change, or start a new run from these weights with -c CONFIG -r CHECKPOINT"

State = Mapping[str, Any]
"""A checkpoint: tensors and plain data."""
Options = Sequence[Mapping[str, object]]
"""Settings of each parameter group of an optimiser, as the config gives them."""


def compare(config: ExperimentConfig, saved: object, source: Path, num_steps: int) -> None:
    """Log how a run's config differs from that of its checkpoint, `saved`; refuse what would make it another run.

    After 0 steps every change is possible, except of what the statistics of the features were measured on. Raises
    ConfigError naming each refused key with both values.
    """
    if not isinstance(saved, Mapping):
        return
    refused = [
        f"{path}: {_short(old)} when {source} was written, now {_short(new)}; {_REMEDY}"
        for path, old, new in fixed_changes(config, saved)
        if num_steps > 0 or (config.preprocessing.normalize == "global" and _is_below(path, _MEASURED))
    ]
    if refused:
        raise ConfigError(refused, "resume")
    for path, old, new in _differences(saved, config.raw):
        logger.warning("config %s was %s when %s was written; now %s", path, _short(old), source, _short(new))


def fixed_changes(config: ExperimentConfig, saved: object) -> list[tuple[str, object, object]]:
    """Return the changes to a run's config that make it another run: path, value in the checkpoint, value now."""
    if not isinstance(saved, Mapping):
        return []
    return [change for change in _differences(saved, config.raw) if _is_below(change[0], _FIXED)]


def group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, object]]:
    """Return the current settings of each parameter group."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def apply_changes(config: ExperimentConfig, saved: object, optimizer: torch.optim.Optimizer, options: Options) -> None:
    """Set what changed in `optimizer.args` on a restored optimiser; `options` are its groups as the config has them."""
    if not isinstance(saved, Mapping):
        return
    now, before = config.optimizer.get("args", {}), _at(saved, "optimizer.args") or {}
    changed = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update({name: own[name] for name in changed if name in own})
    _add_missing_state(optimizer)


def _add_missing_state(optimizer: torch.optim.Optimizer) -> None:
    """Begin with zeros what the optimiser remembers only under settings that were off so far."""
    remembered = {"amsgrad": "max_exp_avg_sq", "centered": "grad_avg"}
    if isinstance(optimizer, torch.optim.RMSprop):
        remembered["momentum"] = "momentum_buffer"
    for group in optimizer.param_groups:
        for name in (name for setting, name in remembered.items() if group.get(setting)):
            for parameter in group["params"]:
                state = optimizer.state.get(parameter)
                if state:
                    state.setdefault(name, torch.zeros_like(parameter))


def forget_best(config: ExperimentConfig, saved: object, progress: Progress) -> None:
    """Reset the best value if another metric is monitored."""
    if (_at(saved, "trainer.monitor") or config.trainer.monitor) != config.trainer.monitor:
        progress.best, progress.epochs_without_improvement = None, 0


def schedule_changed(config: ExperimentConfig, fresh: Any, state: State, num_processes: int) -> bool:
    """Whether the schedule has to be recomputed, because its settings or the length of the run have changed.

    `fresh` is the state of the schedule that the config gives, `state` the checkpoint. Epochs, their length and the
    number of processes matter only to a schedule that has a length.
    """
    restored, saved = state.get("lr_scheduler"), state.get("config")
    if fresh is None or not isinstance(restored, Mapping) or not isinstance(state.get("progress"), Mapping):
        return (fresh is None) != (restored is None)
    keys: tuple[str, ...] = _SCHEDULE
    if any(name in fresh for name in LENGTHS):
        before = state["progress"].get("num_processes", 1)
        if before != num_processes or any(fresh.get(name) != restored.get(name) for name in LENGTHS):
            return True
        keys = (*_SCHEDULE, "trainer.epochs", "trainer.len_epoch")
    changed = _differences(saved, config.raw) if isinstance(saved, Mapping) else []
    return any(_is_below(path, keys) for path, _, _ in changed)


def _is_below(path: str, keys: Sequence[str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for key in keys)


def _differences(old: object, new: object, path: str = "") -> list[tuple[str, object, object]]:
    """List the paths at which two configs differ, with both values; lists are compared whole."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        parts = [(key, f"{path}.{key}".lstrip(".")) for key in keys]
        return [change for key, below in parts for change in _differences(old.get(key), new.get(key), below)]
    return [] if old == new else [(path, old, new)]


def _at(raw: object, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _short(value: object) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
