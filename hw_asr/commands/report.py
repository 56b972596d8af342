"""Writes the pages of a training run, of an evaluation and of a comparison."""

from __future__ import annotations

from pathlib import Path

from hw_asr.report.comparison import summary
from hw_asr.report.page import write_comparison, write_report, write_training_report
from hw_asr.report.results import ReportError, read_results
from hw_asr.storage.runs import Run, RunId


def compare(first: Path, second: Path, output: Path, decoders: tuple[str, str] | None, audio_mb: float) -> str:
    """Write the comparison of two results; return its summary in a few lines.

    Args:
        first, second: files that `test` has written.
        output: the page.
        decoders: the decoder of each; None: the most elaborate one that both have.
        audio_mb: recordings are embedded up to this total size, in megabytes.
    """
    names = (first.stem, second.stem)
    if names[0] == names[1] and first != second:
        names = (str(first), str(second))
    elif names[0] == names[1] and (decoders is None or decoders[0] == decoders[1]):
        names = ("first", "second")
    data = write_comparison(
        read_results(first), read_results(second), output, names=names, decoders=decoders, audio_limit_mb=audio_mb
    )
    return summary(data)


def show_results(path: Path, output: Path, audio_mb: float) -> None:
    """Write the page of the results in `path`, with up to `audio_mb` megabytes of recordings."""
    write_report(read_results(path), output, title=path.stem, totals={}, audio_limit_mb=audio_mb)


def show_training(target: Path, output: Path | None) -> Path:
    """Write the curves of a run, given by a log directory, a model directory or a checkpoint; return the page's path.

    Raises ReportError when the run has no metrics.
    """
    run = Run.of_checkpoint(target) if target.is_file() and target.suffix == ".pth" else None
    if run is None and not (target / "metrics.jsonl").is_file():
        absolute = target.absolute()
        run = Run.below(absolute.parent.parent, RunId(absolute.parent.name, absolute.name), target)
    metrics_path = run.metrics_path if run else target / "metrics.jsonl"
    if not metrics_path.is_file():
        raise ReportError(f"{target}: no metrics.jsonl; give saved/log/EXP/RUN, saved/models/EXP/RUN or a checkpoint")
    output = output or metrics_path.with_name("report.html")
    directory = metrics_path.parent.absolute()
    write_training_report(metrics_path, output, title=f"{directory.parent.name}: {directory.name}")
    return output
