"""The sound part of a faulty config, so that all of its faults can be reported at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from hw_asr.config.schema import ExperimentConfig, RawConfig, parse
from hw_asr.errors import ConfigError

_PLACEHOLDERS: dict[str, object] = {
    "name": "",
    "arch": {"type": ""},
    "optimizer": {"type": ""},
    "trainer": {},
    "data": {},
}


def parse_sound_part(raw: RawConfig, faults: Iterable[str]) -> ExperimentConfig | None:
    """Parse a config without the values that `faults` name; placeholders stand for required ones.

    Returns None if the rest is not a config either.
    """
    result: dict[str, Any] = copy.deepcopy(dict(raw))
    for fault in faults:
        _remove(result, path_of(fault))
    for key, value in _PLACEHOLDERS.items():
        result.setdefault(key, copy.deepcopy(value))
    result["trainer"].setdefault("epochs", 1)
    for name, split in list(result["data"].items()):
        if isinstance(split, dict):
            split["datasets"] = split.get("datasets") or [{"type": ""}]
        elif name != "root_dir":  # a name that faults cut short or that looks like a path
            del result["data"][name]
    try:
        return parse(result)
    except ConfigError:
        return None


def path_of(fault: str) -> str:
    """Return the path that a fault begins with."""
    return fault.partition(":")[0]


def is_sound(path: str, faults: Iterable[str]) -> bool:
    """Whether there is no fault at `path`, below it or above it."""
    return not any(_is_within(path_of(fault), path) or _is_within(path, path_of(fault)) for fault in faults)


def _is_within(path: str, other: str) -> bool:
    return path == other or path.startswith((f"{other}.", f"{other}["))


def _remove(node: object, path: str) -> None:
    """Remove the value at a path; for an item of a list, the whole list."""
    *parents, last = re.sub(r"\[.*", "", path).split(".")
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)
