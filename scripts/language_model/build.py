"""Build a word n-gram language model (modified Kneser-Ney, ARPA) from text or from a split's transcripts."""

from __future__ import annotations

import argparse
import gzip
import io
import string
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hw_asr.errors import UserError
from hw_asr.lm.estimation.discounts import FALLBACK
from hw_asr.lm.estimation.pipeline import NgramOptions, OrderStatistics, build_language_model
from hw_asr.runtime.entry_point import run_command

if TYPE_CHECKING:
    from hw_asr.config import ExperimentConfig

EXAMPLES = """examples:
  build.py --text book.txt news.txt.gz --order 3 -o lm.arpa.gz
  zcat crawl.gz | build.py --text - --order 4 --prune 0 0 1 -o lm.arpa
  build.py --config config.json --split train --order 3 -o lm.arpa --discount-fallback
"""


def arguments() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--text", nargs="+", metavar="FILE", default=[], help="sentences, one a line, UTF-8; .gz, or - for stdin")
    add("--config", type=Path, metavar="PATH", help="take the transcripts and the alphabet of this experiment")
    add("--split", default="train", help="the config's split to take transcripts from (default: train)")
    add("--order", type=int, default=3, metavar="N", help="words in the longest n-gram, 1 to 6 (default: 3)")
    add("-o", "--output", type=Path, required=True, metavar="PATH", help="the model: .arpa, or .arpa.gz")
    add(
        "--prune",
        type=int,
        nargs="+",
        default=[0],
        metavar="COUNT",
        help="leave out n-grams seen at most COUNT times, one value per order, the last holds for the rest: 0 0 1",
    )
    add("--alphabet", metavar="CHARACTERS", help="characters words are made of (default: a-z, or the config's)")
    add("--apostrophe", action="store_true", help="keep the apostrophe: don't, not dont")
    add(
        "--discount-fallback",
        type=float,
        nargs="*",
        metavar="D",
        help="discounts for orders whose counts are too few to estimate any (without values: 0.5 1 1.5)",
    )
    add("--memory", type=int, default=1024, metavar="MIB", help="memory for sorting (default: 1024)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = arguments()
    args = parser.parse_args(argv)
    if not args.text and args.config is None:
        parser.error("nothing to read: give --text FILE, or --config CONFIG for its transcripts")
    try:
        fallback = None if args.discount_fallback is None else tuple(args.discount_fallback or FALLBACK)
        if fallback is not None and len(fallback) != 3:
            raise ValueError(f"discount-fallback: expected three values, got {len(fallback)}")
        options = NgramOptions(args.order, args.prune, fallback, args.memory)
        config = read_config(args.config) if args.config else None
        characters = alphabet(args.alphabet, args.apostrophe, config)
        lines = read_lines(args.text, config, args.split)
        statistics = build_language_model(lines, args.output, characters, options)
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(table(statistics))
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    return 0


def read_config(path: Path) -> ExperimentConfig:
    """Return a checked config; raises ConfigError."""
    from hw_asr.config import read_json
    from hw_asr.experiment.validation import validate

    return validate(read_json(path), str(path))


def alphabet(given: str | None, apostrophe: bool, config: ExperimentConfig | None) -> frozenset[str]:
    """Return the characters of words, and the space."""
    if given is None and config is not None:
        from hw_asr.experiment.components import build_text_encoder

        given = "".join(build_text_encoder(config).alphabet[1:])
    return frozenset((given or string.ascii_lowercase) + " " + "'" * apostrophe)


def read_lines(paths: Iterable[str], config: ExperimentConfig | None, split: str) -> Iterator[str]:
    """Yield sentences, first of the transcripts, then of the files."""
    if config is not None:
        yield from transcripts(config, split)
    for path in paths:
        yield from file_lines(path)


def transcripts(config: ExperimentConfig, split: str) -> Iterator[str]:
    """Yield the reference texts of a split; what is missing is downloaded."""
    from hw_asr.experiment.components import build_corpora, build_text_encoder, select_utterances

    if split not in config.data:
        raise UserError(f"--split {split}: the config has no such split; known: {', '.join(config.data)}")
    utterances, _ = select_utterances(build_corpora(config, split), build_text_encoder(config).normalize)
    for utterance in utterances:
        if utterance.text:
            yield utterance.text


def file_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file, of a .gz, or of standard input (-); raises UserError when it is not UTF-8."""
    try:
        if path == "-":
            yield from io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
        elif path.endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from file
        else:
            with Path(path).open(encoding="utf-8") as file:
                yield from file
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); convert it first, for example with iconv") from error
    except EOFError as error:
        raise UserError(f"{path}: the compressed file ends too early; fetch or make it again") from error


def table(statistics: Iterable[OrderStatistics]) -> str:
    """Return counts and discounts of each order as text."""
    lines = [f"{'order':>5} {'n-grams':>12} {'kept':>12}   D1     D2     D3+"]
    for order, each in enumerate(statistics, start=1):
        discounts = " ".join(f"{value:6.4f}" for value in each.discounts)
        lines.append(f"{order:>5} {each.num_ngrams:>12,} {each.num_kept:>12,}   {discounts}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
