"""Self-contained HTML pages: data, audio and scripts in one file."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from hw_asr.report.clips import Clip, Source, embed, link
from hw_asr.report.comparison import comparison_data
from hw_asr.report.curves import curves_data
from hw_asr.report.evaluation import evaluation_data
from hw_asr.report.page_data import PageData, Row
from hw_asr.report.results import Result
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.writers.jsonl import read_metrics

SCRIPTS = ("dom.js", "charts.js", "transcript.js", "utterances.js", "main.js")
AUDIO_LIMIT_MB = 20.0


def write_report(
    results: Sequence[Result],
    path: Path,
    *,
    title: str,
    totals: Mapping[str, object],
    metrics_path: Path | None = None,
    audio_limit_mb: float = AUDIO_LIMIT_MB,
    audio_dir: Path = Path(),
) -> None:
    """Write the page of an evaluation.

    `results` is the list in output.json; `totals` are further facts to show at the top, in order;
    `metrics_path`, a metrics.jsonl, adds the training curves. Recordings are embedded, those with the most errors
    first, until they take `audio_limit_mb`; the players of the others open the files themselves. Relative paths are
    those of the current directory or of `audio_dir`.
    """
    data = evaluation_data(results)
    data["totals"] = [*_counts(results), *totals.items()]
    if metrics_path is not None and metrics_path.exists():
        data["training"] = curves_data(read_metrics(metrics_path))
    _write(path, title, data, _add_audio(data, path, audio_limit_mb, audio_dir))


def write_comparison(
    first: Sequence[Result],
    second: Sequence[Result],
    path: Path,
    *,
    names: tuple[str, str],
    decoders: tuple[str, str] | None = None,
    audio_limit_mb: float = AUDIO_LIMIT_MB,
    audio_dir: Path = Path(),
) -> PageData:
    """Write the page that compares two outputs over the same recordings, and return its data."""
    data = comparison_data(first, second, names, decoders)
    data["totals"] = [("recordings", len(data["utterances"])), ("with a reference", data["num_scored"])]
    _write(path, " against ".join(data["decoders"]), data, _add_audio(data, path, audio_limit_mb, audio_dir))
    return data


def write_training_report(metrics_path: Path, path: Path, *, title: str, refresh: int | None = None) -> None:
    """Write the page of a training run from its metrics.jsonl; a browser reloads it every `refresh` seconds."""
    data = {"totals": [], "training": curves_data(read_metrics(metrics_path))}
    _write(path, title, data, {}, f'<meta http-equiv="refresh" content="{refresh}">' if refresh else "")


def _counts(results: Sequence[Result]) -> list[tuple[str, object]]:
    seconds = sum(result.get("duration") or 0.0 for result in results)
    failed = sum(bool(result.get("error")) for result in results)
    unscored = sum(result.get("ground_truth") is None and not result.get("error") for result in results)
    warnings = sum(bool(result.get("warning")) for result in results)
    counts = [("utterances", len(results)), ("audio", _clock(seconds)), ("failed", failed), ("warnings", warnings)]
    counts.append(("no reference", unscored))
    return [(name, value) for name, value in counts if value or name in ("utterances", "audio")]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _add_audio(data: PageData, page: Path, limit_mb: float, folder: Path) -> dict[str, Clip]:
    """Give every row a link to its recording, or a clip; return the clips by the id of their element."""
    rows = data["utterances"]
    ranked = sorted(range(len(rows)), key=lambda index: (-_importance(rows[index]), index))
    wanted = [index for index in ranked if not rows[index]["error"]]
    paths = {index: _recording(rows[index]["path"], folder) for index in wanted}
    present = [index for index in wanted if paths[index].is_file()]
    sources = [Source(paths[i], rows[i]["duration"], rows[i]["offset"]) for i in present]
    clips = embed(sources, limit_mb)
    embedded: dict[str, Clip] = {}
    for index, clip in zip(present, clips, strict=True):
        rows[index]["href"] = link(paths[index], page)
        if clip is not None:
            rows[index]["clip"] = f"clip-{index}"
            embedded[f"clip-{index}"] = clip
    if wanted and not present:
        data["audio_note"] = (
            "The recordings were not found, so there are no players: write the page in the directory that their paths "
            "start from."
        )
    elif present and not embedded:
        data["audio_note"] = "No recordings are in this file; the players need them where they were."
    elif len(embedded) < len(present):
        data["audio_note"] = (
            f"{len(embedded)} of {len(present)} recordings are in this file, those with the most errors first; the "
            "players of the others need the recordings where they were."
        )
    return embedded


def _recording(path: str, folder: Path) -> Path:
    return Path(path) if Path(path).is_file() else folder / path


def _importance(row: Row) -> float:
    if "loss" in row:
        return math.inf if row["loss"] is None else row["loss"]
    change = row.get("change")
    if change is not None:
        return abs(change)
    return max((hypothesis.get("errors", 0) for hypothesis in row["hypotheses"][-1:] if hypothesis), default=0)


def _write(path: Path, title: str, data: Mapping[str, object], clips: Mapping[str, Clip], meta: str = "") -> None:
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "title": html.escape(title),
        "meta": meta,
        "style": _template("page.css"),
        "script": "\n".join(_template(name) for name in SCRIPTS),
        "data": text.replace("<", "\\u003c"),
        "clips": "\n".join(
            f'<script type="text/plain" id="{name}">{clip.uri}</script>' for name, clip in clips.items()
        ),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("page.html"))
    with write_and_rename(path) as file:
        file.write(page.encode("utf-8", errors="replace"))


def _template(name: str) -> str:
    return resources.files("hw_asr.report").joinpath(name).read_text(encoding="utf-8")


def _plain(value: object) -> object:
    """Return JSON's own types; numbers that are not finite become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
