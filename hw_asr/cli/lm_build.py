"""Estimate a word n-gram language model (modified Kneser-Ney, ARPA) from text or from a split's transcripts.

examples:
  hw-asr lm-build --text book.txt news.txt.gz --order 3 -o lm.arpa.gz
  zcat crawl.gz | hw-asr lm-build --text - --order 4 --prune 0 0 1 -o lm.arpa
  hw-asr lm-build --config config.json --split train --order 3 -o lm.arpa --discount-fallback
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError
from hw_asr.cli.recipes import config_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--text", nargs="+", metavar="FILE", default=[], help="sentences, one a line, UTF-8; .gz, or - for stdin")
    add("--config", type=config_path, metavar="PATH", help="take the transcripts and the alphabet of this experiment")
    add("--split", default="train", help="the config's split to take transcripts from (default: train)")
    add("--order", type=int, default=3, metavar="N", help="words in the longest n-gram, 1 to 6 (default: 3)")
    add("-o", "--output", type=Path, required=True, metavar="PATH", help="the model: .arpa, or .arpa.gz")
    add("--prune", type=int, nargs="+", default=[0], metavar="COUNT",
        help="drop n-grams seen at most COUNT times; one value per order, the last is used for the rest: 0 0 1",
        )  # fmt: skip
    add("--alphabet", metavar="CHARACTERS", help="characters of words (default: a-z, or the config's alphabet)")
    add("--apostrophe", action="store_true", help="keep the apostrophe: don't, not dont")
    add("--discount-fallback", type=float, nargs="*", metavar="D",
        help="discounts for orders with too few counts to estimate them (without values: 0.5 1 1.5)")  # fmt: skip
    add("--memory", type=int, default=1024, metavar="MIB", help="memory for sorting (default: 1024)")


def run(options: argparse.Namespace) -> int:
    """Build the model and print its statistics; return 0."""
    if not options.text and options.config is None:
        raise UsageError("nothing to read: give --text FILE, or --config CONFIG for its transcripts")
    from hw_asr.commands import lm_build

    lm_build.run(options)
    return 0
