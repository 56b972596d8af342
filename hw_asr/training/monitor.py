"""The monitored metric, which selects the best checkpoint and decides on early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


class MonitorError(ValueError):
    """A `monitor` setting that cannot be parsed."""


@dataclass(frozen=True)
class Monitor:
    """`min SPLIT_METRIC` or `max SPLIT_METRIC`."""

    mode: Literal["min", "max"]
    key: str

    @classmethod
    def parse(cls, text: str) -> Monitor | None:
        """Parse the `monitor` setting; None for `off`. Raises MonitorError."""
        if text == "off":
            return None
        mode, _, key = text.partition(" ")
        if mode not in ("min", "max") or not key:
            raise MonitorError(f"expected 'min SPLIT_METRIC', 'max SPLIT_METRIC' or 'off', got {text!r}")
        return cls("min" if mode == "min" else "max", key)

    def improved(self, values: Mapping[str, float], best: float | None) -> bool:
        """Whether the monitored value is better than the best so far; NaN never is."""
        value = values[self.key]
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value < best if self.mode == "min" else value > best
