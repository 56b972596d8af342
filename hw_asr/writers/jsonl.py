"""The local metrics log: one JSON object per line."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hw_asr.runtime.atomic_files import open_regular, write_and_rename
from hw_asr.writers.null import NullWriter


class JsonlWriter(NullWriter):
    """Appends `{"step", "time", NAME: number, ...}` to `path` for every call of `scalars`; other values are ignored.

    A number that is not finite is written as null. Each line is passed to the operating system immediately, so a killed
    process loses none. `state_dict`, which is called for every checkpoint, and `close` write them to the disk.

    An existing file is continued. An incomplete line, left by a power failure, is removed. With the `state` of a
    checkpoint, so are lines written after it, because the resumed run writes these steps again.
    """

    def __init__(self, path: Path, state: Mapping[str, Any] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        open_regular(path, "a").close()  # refuses a link before anything is read through it
        if path.stat().st_size:
            _drop_lines(path, (state or {}).get("metrics_bytes"))
        self._file = open_regular(path, "a", encoding="utf-8", buffering=1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line; `time` is in seconds since 1970."""
        assert not {"step", "time"} & set(values), "step and time are reserved"
        line: dict[str, float | None] = {"step": step, "time": round(time.time(), 3)}
        line |= {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def state_dict(self) -> dict[str, object]:
        """Write every line to the disk: a checkpoint must not be ahead of the log."""
        os.fsync(self._file.fileno())
        return {"metrics_bytes": os.fstat(self._file.fileno()).st_size}

    def close(self) -> None:
        """Write every line to the disk and close the file."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def read_metrics(path: Path) -> list[dict[str, object]]:
    """Return the lines of a metrics.jsonl in order, without incomplete ones."""
    return [record for _, record in _lines(path) if record is not None]


def _finite(value: float) -> float | None:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def _number(digits: str) -> float:
    """Return an int; a float for one of more digits than a count can have."""
    return int(digits) if len(digits) < 19 else float(digits)


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, object] | None]]:
    """Yield every line and its object, None if the line is incomplete."""
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line, parse_int=_number)
            except (ValueError, RecursionError):
                record = None
            whole = line.endswith(b"\n") and isinstance(record, dict) and isinstance(record.get("step"), int)
            yield line, record if whole else None


def _drop_lines(path: Path, num_bytes: int | None) -> None:
    """Keep the whole lines among the first `num_bytes` bytes."""
    kept, position = [], 0
    for line, record in _lines(path):
        position += len(line)
        if record is not None and (num_bytes is None or position <= num_bytes):
            kept.append(line)
    if sum(map(len, kept)) < position:
        with write_and_rename(path) as file:
            file.writelines(kept)
