"""Arguments of learning-rate schedules that stand for the length of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LENGTHS = ("total_steps", "T_max", "total_iters")
"""Arguments of torch's schedules that count the steps (or epochs) the schedule is made for."""
AUTO = "auto"
"""The value of such an argument that stands for the length of the run."""


def resolved(spec: Mapping[str, object], num_steps: int) -> dict[str, Any]:
    """Return the spec of a schedule with the length of the run in place of "auto".

    OneCycleLR gets it as `total_steps` even without "auto", unless the config gives a length.
    """
    args = spec.get("args", {})
    if not isinstance(args, Mapping):
        return dict(spec)
    args = {name: num_steps if name in LENGTHS and value == AUTO else value for name, value in args.items()}
    if spec.get("type") == "OneCycleLR" and args.get("total_steps") is None and args.get("epochs") is None:
        args["total_steps"] = num_steps
    return {**spec, "args": args}


def given_length(spec: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the name and the value of a length that the config gives as a number, or as the product of two."""
    args = spec.get("args", {})
    parts = args.get("epochs"), args.get("steps_per_epoch")
    if spec.get("type") == "OneCycleLR" and args.get("total_steps") is None and all(type(n) is int for n in parts):
        return "total_steps", parts[0] * parts[1]
    return next(((name, args[name]) for name in LENGTHS if isinstance(args.get(name), int)), None)
