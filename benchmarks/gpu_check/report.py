"""What a part of the check receives and gives: options, rows of a table, and the table itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

OK, BAD, NOTE = "ok", "BAD", ""
"""Verdicts of a row: as expected, not as expected, a measurement without an expectation."""


@dataclass(frozen=True)
class Options:
    """What to check: the device, whether to take the quick form, and where files may be written."""

    device: torch.device
    quick: bool
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


class Row(NamedTuple):
    """A line of the table."""

    name: str
    value: str
    verdict: str = NOTE


Report = Callable[[Row], None]
Part = Callable[[Options, Report], None]


def judge(report: Report, name: str, value: float, limit: float, unit: str = "") -> None:
    """Report a number that must be at most `limit`."""
    report(Row(name, f"{value:.3g}{unit} (at most {limit:g})", OK if value <= limit else BAD))


def expect(report: Report, name: str, condition: bool, value: str = "") -> None:
    """Report whether something holds."""
    report(Row(name, value or ("yes" if condition else "no"), OK if condition else BAD))


def table(part: str, rows: Sequence[Row]) -> str:
    """Return the lines of a part."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"  {row.name:<{width}}  {row.value}{'  ' + row.verdict if row.verdict else ''}" for row in rows]
    return "\n".join([part, *lines])
