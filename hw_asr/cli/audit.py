"""Find transcripts that do not fit their recordings: swapped, cut, of another language, badly transcribed.

Every transcript is scored by a model. The results are sorted, the worst first.

examples:
  hw-asr audit -r model_best.pth -o audit.json --report audit.html          the train split of the checkpoint's config
  hw-asr audit -r model_best.pth -t corpus.jsonl -o audit.json              a manifest, or a folder with transcriptions/
  hw-asr audit --results audit.json --keep clean.jsonl --max-loss 2         a manifest without those above a loss
  hw-asr audit --results audit.json --keep clean.jsonl --drop-share 0.05    without the worst 5 %
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError
from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-r", "--resume", type=Path, metavar="CKPT",
        help="checkpoint; uses the config.json beside it, or else the one inside it")  # fmt: skip
    add("-c", "--config", type=config_path, metavar="OVERLAY",
        help="JSON whose top-level sections replace those of the checkpoint's config")  # fmt: skip
    add("-t", "--data", type=Path, metavar="PATH",
        help="a manifest, or a folder with audio/ and transcriptions/; default: a split of the config")  # fmt: skip
    add("--split", default="train", help="split of the config; default: train")
    add("-o", "--output", type=Path, default=Path("audit.json"), help="default: audit.json")
    add("--results", type=Path, metavar="JSON", help="use the results of an earlier audit instead of a checkpoint")
    add("--report", type=Path, metavar="PATH", help="also write an HTML page with players, the worst first")
    add("--keep", type=Path, metavar="JSONL",
        help="write a manifest of the utterances that --max-loss or --drop-share leaves")  # fmt: skip
    add("--max-loss", type=float, metavar="NATS", help="keep utterances with at most this loss per character")
    add("--drop-share", type=float, metavar="SHARE", help="keep all but this share of the utterances, 0 to 1")
    add("-b", "--batch-size", type=int, default=8, help="utterances per batch in the model; default: 8")
    add("-j", "--jobs", type=int, default=1, help="threads that read recordings in advance; default: 1")
    add("-d", "--device", help="GPU index, or cpu; default: a GPU if available, else the CPU")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="override any key of the config by dotted path; repeatable")  # fmt: skip
    add("--overwrite", action="store_true", help="ignore the results of an interrupted run instead of continuing it")
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Score and write; return the exit code."""
    if (options.resume is None) == (options.results is None):
        raise UsageError("give a checkpoint with -r, or the results of an earlier audit with --results")
    if options.keep is None and not (options.max_loss is None and options.drop_share is None):
        raise UsageError("--max-loss and --drop-share need --keep, the manifest to write")
    if options.keep is not None and (options.max_loss is None) == (options.drop_share is None):
        raise UsageError("--keep needs either --max-loss or --drop-share")
    from hw_asr.commands import audit

    return audit.run(options)
