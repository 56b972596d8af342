"""Write an HTML page: the curves of a training run, the results of an evaluation, or two evaluations compared.

examples:
  report saved/log/EXP/RUN         curves of a run; its models directory or a checkpoint work too
  report output.json               results of test
  report --compare A.json B.json   which is better, with confidence intervals, and on which utterances
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("target", nargs="?", type=Path, metavar="RUN | OUTPUT.json")
    add("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"))
    add("--decoder", nargs="+", metavar="NAME",
        help="with --compare: argmax, beam_search or lm_beam_search; two names to compare different ones")  # fmt: skip
    add("--audio-mb", type=float, default=20.0, help="embed recordings up to this total size (default: 20)")
    add("-o", "--output", type=Path, help="the page; default: in the directory of what it shows")


def run(options: argparse.Namespace) -> int:
    """Write one page; return 0."""
    if (options.target is None) == (options.compare is None):
        raise UsageError("give either a run or an output.json, or --compare with two of them")
    if options.decoder and (options.compare is None or len(options.decoder) > 2):
        raise UsageError("--decoder needs --compare and takes one or two names")
    from hw_asr.commands import report

    if options.compare:
        output = options.output or Path("comparison.html")
        first, second = options.compare
        decoders = (options.decoder[0], options.decoder[-1]) if options.decoder else None
        print(report.compare(first, second, output, decoders, options.audio_mb))
    elif options.target.suffix == ".json":
        output = options.output or options.target.with_suffix(".html")
        report.show_results(options.target, output, options.audio_mb)
    else:
        output = report.show_training(options.target, options.output)
    print(f"written: {output}")
    return 0
