"""The training state of a checkpoint is compared with that of the objects it goes to, before they take it over.

`load_state_dict` of schedules and optimisers accepts any attribute of any type; a file must not be able to set them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_asr.checkpoints.errors import CheckpointError

_OF_PARAMETER_SHAPE = frozenset(
    [
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "exp_inf",
        "square_avg",
        "acc_delta",
        "grad_avg",
        "momentum_buffer",
        "sum",
        "ax",
        "prev",
        "step_size",
    ]
)
"""Names by which the optimizers of torch keep a number for each element of a parameter."""
_REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def restoring(source: Path) -> Iterator[None]:
    """Turn what an object raises about a state that does not fit into CheckpointError."""
    try:
        yield
    except _REFUSALS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"{source}: its training state cannot be restored: {reason}") from error


def check_format(state: Mapping[str, object], source: Path) -> None:
    """Raise CheckpointError for a checkpoint that holds only weights, or the state of another program."""
    if state.get("format") != 1:
        raise CheckpointError(
            f"{source}: written by another program and cannot be continued; to fine-tune from its weights: "
            "train.py -c config.json -r CHECKPOINT"
        )


def matching(saved: object, own: Mapping[str, object], name: str, source: Path) -> dict[str, object]:
    """Return the entries of a saved state that `own`, the state of the object itself, has too.

    Entries may be missing or unknown, as in files of other versions; unknown ones are left out. Raises CheckpointError
    for a value of another kind: mapping, sequence, number, string and tensor are kinds, and None fits everywhere.
    """
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{source}: {name} is not a mapping")
    _check(saved, own, name, source)
    return {key: value for key, value in saved.items() if key in own}


def _check(saved: object, own: object, name: str, source: Path) -> None:
    if not _fits(saved, own):
        raise CheckpointError(f"{source}: {name} is not one that this program writes")
    if isinstance(own, Mapping) and isinstance(saved, Mapping):
        for key, value in saved.items():
            if key in own or not own:
                _check(value, own.get(key), f"{name}.{key!s:.60}", source)
    elif isinstance(own, (list, tuple)) and isinstance(saved, (list, tuple)):
        for index, value in enumerate(saved):
            _check(value, own[min(index, len(own) - 1)] if own else None, f"{name}[{index}]", source)


def check_optimizer(saved: object, optimizer: torch.optim.Optimizer, source: Path) -> None:
    """Raise CheckpointError unless `saved` is a state of this optimizer: its groups, and a state per parameter."""
    groups: list[dict[str, object]] = optimizer.state_dict()["param_groups"]
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= saved.keys():
        raise CheckpointError(f"{source}: its optimizer state has no `state` and `param_groups`")
    found = saved["param_groups"]
    if not isinstance(found, list) or len(found) != len(groups):
        raise CheckpointError(f"{source}: its optimizer state has other parameter groups than this config")
    extra = dict.fromkeys(("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"), 0.0)  # of schedules
    for index, (group, own) in enumerate(zip(found, groups, strict=True)):
        matching(group, {**extra, **own}, f"optimizer.param_groups[{index}]", source)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = saved["state"]
    if not isinstance(states, Mapping):
        raise CheckpointError(f"{source}: optimizer.state is not a mapping")
    for key, state in states.items():
        if type(key) is not int or not 0 <= key < len(parameters) or not isinstance(state, Mapping):
            raise CheckpointError(f"{source}: optimizer.state has an unknown entry {key!r:.60}")
        for name, value in state.items():
            if not isinstance(name, str) or not _is_state_of(name, value, parameters[key]):
                raise CheckpointError(f"{source}: optimizer.state.{key}.{name!r:.60} does not fit its parameter")


def on_this_device(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """Return a saved state with the implementation (fused or not) that the optimizer has chosen for its device."""
    groups = []
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=False):
        groups.append({**saved, **{name: own[name] for name in ("fused", "foreach") if name in own}})
    return {**state, "param_groups": groups}


def _is_state_of(name: str, value: object, parameter: Tensor) -> bool:
    """Whether an optimizer may hold a value for a parameter; another shape or type would stop the first step."""
    if name == "step":
        return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0)
    if name in _OF_PARAMETER_SHAPE and value is not None:
        return isinstance(value, Tensor) and value.is_floating_point() and value.shape == parameter.shape
    if isinstance(value, Tensor):
        return value.numel() <= max(1, parameter.numel()) and not value.is_complex()
    return isinstance(value, (bool, int, float, type(None)))


def _fits(saved: object, own: object) -> bool:
    """Whether two values are of one kind; where the own value is None, any plain value fits."""
    if saved is None or own is None:
        return saved is None or isinstance(saved, (bool, int, float, str))
    kinds: Sequence[type | tuple[type, ...]] = (Mapping, (list, tuple), (bool, int, float), str, Tensor)
    return any(isinstance(saved, kind) and isinstance(own, kind) for kind in kinds)
