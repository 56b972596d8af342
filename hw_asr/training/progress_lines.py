"""The lines that training prints: one per log step, a table per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from hw_asr.metrics import SplitMetric, is_error_rate
from hw_asr.runtime.console import aligned

_MOST_SECONDS = 1e13
"""About what a timedelta holds."""


class Position(NamedTuple):
    """The current epoch, the share of it that is done, and the seconds that the rest of the run will take."""

    epoch: int
    epochs: int
    done: float
    seconds_left: float


def step_line(position: Position, step: int, values: Mapping[str, float]) -> str:
    """Return one aligned line: position in the run, the numbers, the time left."""
    epoch, epochs, done, left = position
    seconds = round(min(left, _MOST_SECONDS))
    rates = " ".join(f"{name.split()[0]} {100 * value:5.1f}%" for name, value in values.items() if "(argmax)" in name)
    return (
        f"epoch {epoch:>{len(str(epochs))}}/{epochs} {100 * done:3.0f}%  step {step:6d}  loss {values['loss']:7.4f}  "
        f"{rates}  grad {values['grad_norm']:8.2f}  lr {values['learning_rate']:.2e}  "
        f"{values['audio_seconds_per_second']:6.1f}x real time  left {timedelta(seconds=seconds)}"
    )


def epoch_table(epoch: int, results: Mapping[str, Mapping[str, float]], monitored: str | None, best: bool) -> str:
    """Return one row per split, one column per metric; `*` marks the monitored value when it is the best so far."""
    columns = list(dict.fromkeys(name for values in results.values() for name in values))
    rows = [[f"epoch {epoch}", *columns]]
    for split, values in results.items():
        cells = [_cell(name, values[name]) if name in values else "" for name in columns]
        marks = ["*" if best and SplitMetric(split, name).key == monitored else " " for name in columns]
        rows.append([split, *(cell + mark for cell, mark in zip(cells, marks, strict=True))])
    return aligned(rows)


def _cell(name: str, value: float) -> str:
    return f"{100 * value:.2f}%" if is_error_rate(name) else f"{value:.4f}"
