"""What a person sees of a run: log lines that live with progress bars, a table per epoch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class _BarFriendlyHandler(logging.Handler):
    """Writes above progress bars instead of through them.

    Without a word where that fails: a run does not end because its terminal is gone or `| head` has seen enough.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging(verbosity: int, log_path: Path | None = None) -> None:
    """Send the project's log lines to the terminal from `verbosity` on, and all of them to `log_path`."""
    logger = logging.getLogger("hw_asr")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    terminal = _BarFriendlyHandler(LEVELS[verbosity])
    terminal.setFormatter(_LineFormatter())
    logger.addHandler(terminal)
    logging.captureWarnings(True)
    warnings = logging.getLogger("py.warnings")
    warnings.handlers = [terminal]
    warnings.propagate = False
    if log_path is not None:
        file = logging.FileHandler(log_path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
        warnings.addHandler(file)


class _LineFormatter(logging.Formatter):
    """Bare messages, warnings and errors marked as such."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class Place(NamedTuple):
    """Where a run is: the epoch in progress, the share of it that is done, and what is left of the run, in seconds."""

    epoch: int
    epochs: int
    done: float
    seconds_left: float


def step_line(place: Place, step: int, values: Mapping[str, float]) -> str:
    """One aligned line: place in the run, then the numbers, then the time left."""
    epoch, epochs, done, left = place
    rates = " ".join(f"{name.split()[0]} {100 * value:5.1f}%" for name, value in values.items() if "(argmax)" in name)
    return (
        f"epoch {epoch:>{len(str(epochs))}}/{epochs} {100 * done:3.0f}%  step {step:6d}  loss {values['loss']:7.4f}  "
        f"{rates}  grad {values['grad_norm']:8.2f}  lr {values['learning_rate']:.2e}  "
        f"{values['audio_seconds_per_second']:6.1f}x real time  left {timedelta(seconds=round(left))}"
    )


def epoch_table(epoch: int, results: Mapping[str, Mapping[str, float]], monitored: str | None, best: bool) -> str:
    """One row per split, one column per metric; `*` marks the monitored value when it is the best so far."""
    columns = list(dict.fromkeys(name for values in results.values() for name in values))
    rows = [[f"epoch {epoch}", *columns]]
    for split, values in results.items():
        cells = [_cell(name, values[name]) if name in values else "" for name in columns]
        marks = ["*" if best and f"{split}_{name}" == monitored else " " for name in columns]
        rows.append([split, *(cell + mark for cell, mark in zip(cells, marks, strict=True))])
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Lay rows of cells out in columns: the first one left, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            f"{cell:<{width}}" if not index else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def _cell(name: str, value: float) -> str:
    return f"{100 * value:.2f}%" if "ER" in name else f"{value:.4f}"
