"""Arguments of torch's learning-rate schedules: their types and ranges, which torch checks late or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from hw_asr.config.arguments import check_value
from hw_asr.config.partial import is_sound
from hw_asr.config.registry import SCHEDULERS


class _Range(NamedTuple):
    """The type of an argument, and the least and the greatest value of a number or of each number in a list."""

    annotation: object
    least: float = 0
    most: float = float("inf")
    excludes_least: bool = False


_MAX_STEPS = 2**53
"""Torch computes with floats, which hold no larger integers exactly."""
_COUNT, _OPTIONAL_COUNT = _Range(int, 1, _MAX_STEPS), _Range(int | None, 1, _MAX_STEPS)
_NUMBER, _RATES = _Range(float), _Range(float | list[float], most=3.4e38)
_POSITIVE, _SHARE = _Range(float, excludes_least=True), _Range(float, most=1)
_POSITIVE_SHARE = _Range(float, most=1, excludes_least=True)
_ARGUMENTS = {
    **dict.fromkeys(("T_max", "T_0", "T_mult", "step_size"), _COUNT),
    **dict.fromkeys(("total_steps", "epochs", "steps_per_epoch"), _OPTIONAL_COUNT),
    **dict.fromkeys(("total_iters", "patience", "cooldown", "anneal_epochs"), _Range(int, 0, _MAX_STEPS)),
    **dict.fromkeys(("eta_min", "gamma", "power", "threshold", "eps"), _NUMBER),
    **dict.fromkeys(("base_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum"), _RATES),
    **dict.fromkeys(("factor", "start_factor"), _POSITIVE_SHARE),
    **dict.fromkeys(("end_factor", "pct_start"), _SHARE),
    **dict.fromkeys(("div_factor", "final_div_factor"), _POSITIVE),
    **dict.fromkeys(("cycle_momentum", "three_phase"), _Range(bool)),
    "step_size_up": _Range(float, most=_MAX_STEPS, excludes_least=True),
    "step_size_down": _Range(float | None, most=_MAX_STEPS, excludes_least=True),
    "milestones": _Range(list[int], 0, _MAX_STEPS),
    "scale_fn": _Range(None),
    "last_epoch": _Range(int, -1, -1),
    "anneal_strategy": _Range(Literal["cos", "linear"]),
    "scale_mode": _Range(Literal["cycle", "iterations"]),
    "threshold_mode": _Range(Literal["rel", "abs"]),
}
"""By name; an argument means the same in every schedule."""
_MODES = {
    "CyclicLR": _Range(Literal["triangular", "triangular2", "exp_range"]),
    "ReduceLROnPlateau": _Range(Literal["min", "max"]),
}
_WITHOUT_JSON = ("ChainedScheduler", "LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR")


def schedule_faults(spec: Mapping[str, Any], path: str, provided: Sequence[str]) -> list[str]:
    """List the faults of a schedule's spec, in which "auto" is replaced already; see `Registry.check`."""
    own = _argument_faults(spec, path)
    if any(fault.startswith(f"{path}.type:") for fault in own):
        return own
    found = SCHEDULERS.check(spec, path, provided)
    return found + [fault for fault in own if is_sound(fault.partition(":")[0], found)]


def _argument_faults(spec: Mapping[str, Any], path: str) -> list[str]:
    """List what torch checks late or not at all in the arguments of its own schedules."""
    kind, args = spec.get("type"), spec.get("args", {})
    if "module" in spec or kind in SCHEDULERS.registered() or not isinstance(kind, str):
        return []
    if kind in _WITHOUT_JSON:
        return [
            f"{path}.type: {kind} takes Python objects, which a config cannot contain; write a class that makes them, "
            f'and name its module in {path}.module'
        ]  # fmt: skip
    if not isinstance(args, Mapping):
        return []
    known = {**_ARGUMENTS, **({"mode": _MODES[kind]} if kind in _MODES else {})}
    return [
        fault for name, value in args.items() if name in known
        for fault in _faults(known[name], value, f"{path}.args.{name}")
    ]  # fmt: skip


def _faults(expected: _Range, value: object, path: str) -> list[str]:
    faults = check_value(expected.annotation, value, path)
    if faults:
        return faults
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    numbers = [item for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)]
    outside = [
        number for number in numbers
        if not expected.least <= number <= expected.most or (expected.excludes_least and number == expected.least)
    ]  # fmt: skip
    if outside and outside[0] > expected.most >= _MAX_STEPS:
        return [f"{path}: expected at most {expected.most}, got {outside[0]!r:.60}"]
    return [f"{path}: expected {_described(expected)}, got {number!r:.60}" for number in outside[:1]]


def _described(expected: _Range) -> str:
    if expected.least == expected.most:
        return f"{expected.least:g}, since a checkpoint stores the position in the schedule"
    least = f"more than {expected.least:g}" if expected.excludes_least else f"{expected.least:g} or more"
    return least if expected.most in (float("inf"), _MAX_STEPS) else f"{least} and at most {expected.most:g}"
