"""Training curves and the best value of every metric, from metrics.jsonl."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hw_asr.metrics import CORPUS, SplitMetric, is_error_rate

MAX_POINTS = 800


def curves_data(records: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return charts and a table of bests from the lines of a metrics.jsonl."""
    splits = _splits(records)
    series: dict[str, list[tuple[int, float | None]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "time", "epoch") and (value is None or isinstance(value, (int, float))):
                is_number = value is not None and math.isfinite(value)
                series.setdefault(name, []).append((record["step"], value if is_number else None))
    charts: dict[str, list[dict[str, object]]] = {}
    for name, points in series.items():
        chart, label = _place(name, splits)
        charts.setdefault(chart, []).append({"label": label, "points": thinned(points)})
    ordered = sorted(charts.items(), key=lambda item: _importance(item[0]))
    return {
        "charts": [{"title": title, "series": lines} for title, lines in ordered],
        "bests": [_best(name, points) for name, points in series.items() if SplitMetric.parse(name, splits)],
        "facts": _facts(records),
    }


def thinned(points: Sequence[tuple[int, float | None]]) -> list[tuple[float, float | None]]:
    """Return at most MAX_POINTS points, each the mean of adjacent ones; a value that is not a number remains a gap."""
    if len(points) <= MAX_POINTS:
        return [(float(step), value) for step, value in points]
    width = -(-len(points) // MAX_POINTS)
    means: list[tuple[float, float | None]] = []
    for start in range(0, len(points), width):
        bucket = points[start : start + width]
        values = [value for _, value in bucket if value is not None]
        step = sum(step for step, _ in bucket) / len(bucket)
        is_constant = len(set(values)) == 1  # a mean of equal values may differ from them by rounding
        means.append((step, values[0] if is_constant else sum(values) / len(values) if values else None))
    return means


def _splits(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the evaluated splits: the record of an evaluation names its epoch and has the loss of every split."""
    ending = SplitMetric("", "loss").key
    keys = dict.fromkeys(name for record in records if "epoch" in record for name in record)
    return [name.removesuffix(ending) for name in keys if name.endswith(ending)]


def _place(name: str, splits: Sequence[str]) -> tuple[str, str]:
    """Return the chart a metric belongs to and its label there: one chart for a metric of all splits."""
    found = SplitMetric.parse(name, [*splits, "train"])
    if found is None:
        return name.replace("_", " "), name
    title = found.metric.removesuffix(CORPUS)
    suffix = CORPUS if title != found.metric else ""
    return title.replace("_", " "), found.split + suffix


def _importance(title: str) -> tuple[int, str]:
    return (0 if title == "loss" else 1 if "WER" in title else 2 if "CER" in title else 3), title


def _best(name: str, points: Sequence[tuple[int, float | None]]) -> dict[str, object]:
    known = [(value, step) for step, value in points if value is not None]
    best = min(known, default=(None, None))
    return {"name": name, "best": best[0], "step": best[1], "last": points[-1][1], "is_rate": is_error_rate(name)}


def _facts(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    if not records:
        return [("lines", 0)]
    times = [record["time"] for record in records if isinstance(record.get("time"), (int, float))]
    busy = sum(min(later - earlier, 600.0) for earlier, later in itertools.pairwise(times) if later > earlier)
    epochs = [record["epoch"] for record in records if isinstance(record.get("epoch"), (int, float))]
    facts: list[tuple[str, object]] = [("steps", max(record["step"] for record in records))]
    if epochs:
        facts.append(("epochs", max(epochs)))
    facts.append(("hours at work", round(busy / 3600, 2)))
    return facts
