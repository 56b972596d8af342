"""`optimizer.groups`: parameters, by the beginning of their names, that are trained with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw_asr.config.arguments import check_value, convert

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OptimizerGroup:
    """Parameters whose names are `match`, or begin with `match` and a dot."""

    match: str
    lr_scale: float = 1.0
    """Factor on the learning rate, under every schedule."""
    weight_decay: float | None = None
    """null: that of `optimizer.args`."""
    layer_decay: float | None = None
    """Factor on the learning rate of each layer relative to the next one, where `match` names a list of layers; the
    last layer has `lr_scale`."""


def check_groups(spec: Mapping[str, Any], path: str) -> list[str]:
    """List the faults in the `groups` of an optimizer's spec that can be found without a model."""
    groups = spec.get("groups", [])
    faults = check_value(list[OptimizerGroup], groups, f"{path}.groups")
    for index, group in enumerate([] if faults else groups):
        decay = group.get("layer_decay")
        if decay is not None and not 0 < decay <= 1:
            faults.append(f"{path}.groups[{index}].layer_decay: expected a number in (0, 1], got {decay}")
        for name in ("lr_scale", "weight_decay"):
            value = group.get(name)
            if value is not None and not 0 <= value < float("inf"):
                faults.append(f"{path}.groups[{index}].{name}: expected a number of 0 or more, got {value}")
    return faults


def parameter_groups(spec: Mapping[str, object], model: nn.Module) -> list[dict[str, object]]:
    """Divide the trained parameters of a model: first those that no group matches, then group after group.

    A parameter belongs to the first group that matches it. A group with `layer_decay` becomes one for each layer.
    Each result has `params` and `lr_scale`. Raises ValueError for a group that gets no parameter or has no layers.
    """
    groups: list[OptimizerGroup] = convert(list[OptimizerGroup], spec.get("groups", []))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owner = {
        name: next((index for index, group in enumerate(groups) if f"{name}.".startswith(f"{group.match}.")), None)
        for name in trained
    }
    rest = [parameter for name, parameter in trained.items() if owner[name] is None]
    result: list[dict[str, object]] = [{"params": rest, "lr_scale": 1.0}] if rest else []
    for index, group in enumerate(groups):
        members = {name: parameter for name, parameter in trained.items() if owner[name] == index}
        if not members:
            top = ", ".join(dict.fromkeys(name.partition(".")[0] for name in trained))
            raise ValueError(
                f"groups[{index}].match: {group.match!r} matches no parameter that is trained and not in an earlier "
                f"group; names begin with {top}"
            )
        own = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
        if group.layer_decay is None:
            result.append({"params": list(members.values()), "lr_scale": group.lr_scale, **own})
            continue
        layers = _by_layer(members, group.match, f"groups[{index}].layer_decay")
        for number, parameters in sorted(layers.items()):
            scale = group.lr_scale * group.layer_decay ** (max(layers) - number)
            result.append({"params": parameters, "lr_scale": scale, **own})
    return result


def _by_layer(members: Mapping[str, nn.Parameter], match: str, path: str) -> dict[int, list[nn.Parameter]]:
    """Divide parameters `MATCH.N.…` by N; raises ValueError, naming `path`, for one that has no number there."""
    layers: dict[int, list[nn.Parameter]] = {}
    for name, parameter in members.items():
        number = name.removeprefix(f"{match}.").partition(".")[0]
        if not number.isdecimal():
            raise ValueError(f"{path}: {match!r} is not a list of layers, which have numbers in their names: {name}")
        layers.setdefault(int(number), []).append(parameter)
    return layers
