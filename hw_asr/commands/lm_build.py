"""Builds an n-gram language model from text files and from the transcripts of a split."""

from __future__ import annotations

import argparse
import gzip
import io
import string
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.commands.output_files import check_file, writing
from hw_asr.errors import UserError
from hw_asr.lm.estimation.discounts import FALLBACK
from hw_asr.lm.estimation.pipeline import NgramOptions, OrderStatistics, build_language_model

if TYPE_CHECKING:
    from hw_asr.config import ExperimentConfig


class BuildError(UserError):
    """Options of the model that have no meaning, or text that cannot be used."""


def run(options: argparse.Namespace) -> None:
    """Write the model and print counts and discounts. `options` are those that `hw_asr.cli.lm_build` declares."""
    check_file(options.output, "--output", [Path(path) for path in options.text] + [options.config])
    try:
        fallback = None if options.discount_fallback is None else tuple(options.discount_fallback or FALLBACK)
        if fallback is not None and len(fallback) != 3:
            raise BuildError(f"discount-fallback: expected three values, got {len(fallback)}")
        model = NgramOptions(options.order, options.prune, fallback, options.memory)
        config = read_config(options.config) if options.config else None
        characters = alphabet(options.alphabet, options.apostrophe, config)
        lines = read_lines(options.text, config, options.split)
        with writing(options.output, "--output"):
            statistics = build_language_model(lines, options.output, characters, model)
    except ValueError as error:
        raise BuildError(str(error)) from error
    print(table(statistics))
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e6:.1f} MB)")


def read_config(path: Path) -> ExperimentConfig:
    """Return a checked config; raises ConfigError."""
    from hw_asr.config import read_json
    from hw_asr.experiment.validation import validate

    return validate(read_json(path), str(path))


def alphabet(given: str | None, apostrophe: bool, config: ExperimentConfig | None) -> frozenset[str]:
    """Return the characters that words are made of, and the space."""
    if given is None and config is not None:
        from hw_asr.experiment.components import build_text_encoder

        given = "".join(build_text_encoder(config).alphabet[1:])
    return frozenset((given or string.ascii_lowercase) + " " + "'" * apostrophe)


def read_lines(paths: Iterable[str], config: ExperimentConfig | None, split: str) -> Iterator[str]:
    """Yield sentences: first those of the transcripts, then those of the files."""
    if config is not None:
        yield from transcripts(config, split)
    for path in paths:
        yield from file_lines(path)


def transcripts(config: ExperimentConfig, split: str) -> Iterator[str]:
    """Yield the reference texts of a split; a missing corpus is downloaded."""
    from hw_asr.experiment.components import build_corpora, build_text_encoder, select_utterances

    if split not in config.data:
        raise BuildError(f"--split {split}: the config has no such split; known: {', '.join(config.data)}")
    utterances, _ = select_utterances(build_corpora(config, split), build_text_encoder(config).normalize)
    for utterance in utterances:
        if utterance.text:
            yield utterance.text


def file_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file, of a .gz, or of standard input (-); raises BuildError when it is not UTF-8."""
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
        raise BuildError(
            f"{path}: not UTF-8 text ({error.reason}); convert it first, for example with iconv"
        ) from error
    except EOFError as error:
        raise BuildError(f"{path}: the compressed file ends too early; download or create it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BuildError(f"{path}: not a gzip file, or a damaged one ({error}); download or create it again") from error
    except OSError as error:
        raise BuildError(f"{path}: cannot read it: {error.strerror or error}") from error


def table(statistics: Iterable[OrderStatistics]) -> str:
    """Return counts and discounts of each order as text."""
    lines = [f"{'order':>5} {'n-grams':>12} {'kept':>12}   D1     D2     D3+"]
    for order, row in enumerate(statistics, start=1):
        discounts = " ".join(f"{value:6.4f}" for value in row.discounts)
        lines.append(f"{order:>5} {row.num_ngrams:>12,} {row.num_kept:>12,}   {discounts}")
    return "\n".join(lines)
