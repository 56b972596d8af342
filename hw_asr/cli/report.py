"""Write an HTML page: the curves of a training run, the results of an evaluation, or two evaluations compared.

examples:
  hw-asr report saved/log/EXP/RUN         curves of a run; its models directory or a checkpoint work too
  hw-asr report EXP:RUN --watch           the same from the external storage, updated every minute
  hw-asr report output.json               results of test.py
  hw-asr report --compare A.json B.json   which is better, with confidence intervals, and on which utterances
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError
from hw_asr.cli.recipes import config_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("target", nargs="?", metavar="RUN | EXP:RUN | OUTPUT.json",
        help="directory of a run, a run in the storage, or results of test.py")  # fmt: skip
    add("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"),
        help="compare two results of test.py on the same recordings")  # fmt: skip
    add("--decoder", nargs="+", metavar="NAME",
        help="with --compare: argmax, beam_search or lm_beam_search; two names to compare different ones")  # fmt: skip
    add("--audio-mb", type=float, default=20.0, help="embed recordings up to this total size (default: 20)")
    add("-c", "--config", type=config_path, default=Path("gdrive_storage/external_storage.json"),
        help="with EXP:RUN: the storage config, or an experiment's config (default: %(default)s)")  # fmt: skip
    add("--watch", nargs="?", type=float, const=60.0, metavar="SECONDS",
        help="rewrite the page of a run every SECONDS seconds (default: 60) until Ctrl-C")  # fmt: skip
    add("-o", "--output", type=Path, help="the page; default: in the directory of what it shows")


def run(options: argparse.Namespace) -> int:
    """Write one page; return 0."""
    if (options.target is None) == (options.compare is None):
        raise UsageError("give either a run or an output.json, or --compare with two of them")
    if options.decoder and (options.compare is None or len(options.decoder) > 2):
        raise UsageError("--decoder needs --compare and takes one or two names")
    if options.watch is not None and (options.compare or options.target.endswith(".json") or not options.watch >= 1):
        raise UsageError("--watch needs a run, and at least 1 second")
    from hw_asr.commands import report
    from hw_asr.commands.output_files import check_file

    if options.output is not None:
        check_file(options.output, "--output", options.compare or [Path(options.target)], begins="<")
    if options.compare:
        output = options.output or Path("comparison.html")
        first, second = options.compare
        decoders = (options.decoder[0], options.decoder[-1]) if options.decoder else None
        print(report.compare(first, second, output, decoders, options.audio_mb))
    elif options.target.endswith(".json"):
        output = options.output or Path(options.target).with_suffix(".html")
        report.show_results(Path(options.target), output, options.audio_mb)
    else:
        output = report.show_training(options.target, options.output, options.config, options.watch)
    print(f"written: {output}")
    return 0
