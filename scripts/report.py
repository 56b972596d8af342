"""Pages to look at: a training run, an evaluation, or two evaluations side by side.

python scripts/report.py saved/log/EXP/RUN         the curves of a run; its models directory or a checkpoint do too
python scripts/report.py output.json               the results of test.py
python scripts/report.py --compare A.json B.json   which is better, how surely, and where
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hw_asr.errors import UserError
from hw_asr.runtime.entry_point import run_command


def main(arguments: list[str] | None = None) -> int:
    """Write one page; return 0, or 1 after saying what is wrong."""
    options = _parse(arguments)
    try:
        said = _write(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


def _write(options: argparse.Namespace) -> str:
    """Write the page that is asked for; return what to say of it."""
    found = ""
    if options.compare:
        output = options.output or Path("comparison.html")
        found = _compare(options.compare[0], options.compare[1], output, options.decoder, options.audio_mb) + "\n"
    elif options.target.suffix == ".json":
        output = options.output or options.target.with_suffix(".html")
        _evaluation(options.target, output, options.audio_mb)
    else:
        output = _training(options.target, options.output)
    return f"{found}written: {output}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, metavar="RUN | OUTPUT.json")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"))
    parser.add_argument(
        "--decoder", nargs="+", metavar="NAME",
        help="with --compare: argmax, beam_search or lm_beam_search; two names to compare different ones",
    )  # fmt: skip
    parser.add_argument("--audio-mb", type=float, default=20.0, help="embed recordings up to this size (default: 20)")
    parser.add_argument("-o", "--output", type=Path, help="the page; by default beside what it shows")
    options = parser.parse_args(arguments)
    if (options.target is None) == (options.compare is None):
        parser.error("give either a run or an output.json, or --compare with two of them")
    if options.decoder and (options.compare is None or len(options.decoder) > 2):
        parser.error("--decoder goes with --compare and takes one or two names")
    return options


def _compare(first: Path, second: Path, output: Path, decoder: list[str] | None, audio_mb: float) -> str:
    """Write the page; return what it found in a few lines."""
    from hw_asr.report.comparison import summary
    from hw_asr.report.page import write_comparison
    from hw_asr.report.results import read_results

    decoders = (decoder[0], decoder[-1]) if decoder else None
    names = (first.stem, second.stem)
    if names[0] == names[1] and first != second:
        names = (str(first), str(second))
    elif names[0] == names[1] and (decoders is None or decoders[0] == decoders[1]):
        names = ("first", "second")
    data = write_comparison(
        read_results(first), read_results(second), output, names=names, decoders=decoders, audio_limit_mb=audio_mb
    )
    return summary(data)


def _evaluation(path: Path, output: Path, audio_mb: float) -> None:
    from hw_asr.report.page import write_report
    from hw_asr.report.results import read_results

    write_report(read_results(path), output, title=path.stem, totals={}, audio_limit_mb=audio_mb)


def _training(target: Path, output: Path | None) -> Path:
    from hw_asr.report.page import write_training_report
    from hw_asr.report.results import ReportError
    from hw_asr.storage.runs import Run, RunId

    run = Run.of_checkpoint(target) if target.is_file() and target.suffix == ".pth" else None
    if run is None and not (target / "metrics.jsonl").is_file():
        absolute = target.absolute()
        run = Run.below(absolute.parent.parent, RunId(absolute.parent.name, absolute.name), target)
    metrics_path = run.metrics_path if run else target / "metrics.jsonl"
    if not metrics_path.is_file():
        raise ReportError(
            f"{target}: no metrics.jsonl here; give saved/log/EXP/RUN, saved/models/EXP/RUN or a checkpoint"
        )
    output = output or metrics_path.with_name("report.html")
    directory = metrics_path.parent.absolute()
    write_training_report(metrics_path, output, title=f"{directory.parent.name}: {directory.name}")
    return output


if __name__ == "__main__":
    run_command(main)
