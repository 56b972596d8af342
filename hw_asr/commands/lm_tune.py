"""Chooses alpha, beta and beam width of decoding with a language model on a dev split."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import hw_asr.text  # noqa: F401 - registers the text encoders
from hw_asr.commands.dev_emissions import load_or_compute
from hw_asr.commands.output_files import check_file
from hw_asr.config.registry import TEXT_ENCODERS
from hw_asr.decoders.base import MAX_BEAM_SIZE
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.errors import UserError
from hw_asr.lm.language_model import LanguageModel
from hw_asr.lm.librispeech import resolve
from hw_asr.lm.tuning.heat_map import plot
from hw_asr.lm.tuning.search import SearchSpace, Setting, overlay, table, tune
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.optional import MissingPackageError

LARGEST_WEIGHT = 1000.0
"""Of alpha, beta and the offset, in nats; refinements may go further."""


class TuningError(UserError):
    """Options that do not fit together, or data that must not be tuned on."""


def run(options: argparse.Namespace) -> None:
    """Tune; write the overlay and the heat map. `options` are those that `hw_asr.cli.lm_tune` declares."""
    alphas, betas = grid("--alphas", options.alphas), grid("--betas", options.betas)
    check(options)
    picture = options.picture or options.output.with_suffix(".png")
    for path, option in ((options.output, "--output"), (picture, "--picture")):
        check_file(path, option, (options.resume, options.config, options.log_probs, Path(options.lm)))
    if options.log_probs is not None and not options.log_probs.is_file():
        check_file(options.log_probs, "--log-probs")
    model_path = resolve(options.lm, options.lm_dir)
    start = Setting(0.0, 0.0, -10.0, options.search_beam)
    emissions = load_or_compute(options, lambda alphabet: decoder_factory(model_path, alphabet)(start).prepare())
    if options.limit:
        emissions = emissions.head(options.limit)
    factory = decoder_factory(model_path, emissions.alphabet)
    space = SearchSpace(alphas, betas, options.unknown, options.beams, options.refinements)
    tuning = tune(emissions, factory, start, space)
    print(f"{len(emissions.references)} utterances of {', '.join(emissions.origin)}; {model_path}")
    print(table(tuning))
    with write_and_rename(options.output, "w") as file:
        json.dump(overlay(tuning.best.setting, model_path), file, indent=2, ensure_ascii=False)
        file.write("\n")
    print(f"overlay: {options.output} (python test.py -r CKPT -c {options.output})")
    try:
        plot(tuning, picture, f"{model_path.name} on {emissions.origin[0]}, {len(emissions.references)} utterances")
    except MissingPackageError as error:
        print(f"no heat map: {error}")
    else:
        print(f"heat map: {picture}")


def check(options: argparse.Namespace) -> None:
    """Raise TuningError for values out of range, before anything is loaded."""
    for name in ("batch_size", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise TuningError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")
    for name, widths in (("--beams", options.beams), ("--search-beam", [options.search_beam])):
        if not all(1 <= width <= MAX_BEAM_SIZE for width in widths):
            raise TuningError(f"{name}: expected widths from 1 to {MAX_BEAM_SIZE}, got {', '.join(map(str, widths))}")
    for name, weights, least in (
        ("--alphas", options.alphas[:2], 0.0),
        ("--betas", options.betas[:2], -LARGEST_WEIGHT),
        ("--unknown", options.unknown, -LARGEST_WEIGHT),
    ):
        if not all(least <= weight <= LARGEST_WEIGHT for weight in weights):
            given = ", ".join(f"{weight:g}" for weight in weights)
            raise TuningError(f"{name}: expected values from {least:g} to {LARGEST_WEIGHT:g}, got {given}")
    if options.refinements < 0:
        raise TuningError(f"--refinements: expected 0 or more, got {options.refinements}")
    if options.split == "train":
        raise TuningError("--split: the network has learnt the texts of 'train'; tune on a dev split")
    if options.resume is None and (options.log_probs is None or not options.log_probs.is_file()):
        raise TuningError("nothing to tune on: give a checkpoint with -r, or a file of an earlier run with --log-probs")


def grid(name: str, span: list[float]) -> list[float]:
    """Return FIRST, FIRST + STEP, ... up to LAST; raises TuningError when there are no values, or too many."""
    first, last, step = span
    if not all(map(math.isfinite, span)) or step <= 0 or last < first:
        raise TuningError(f"{name}: expected FIRST <= LAST and a STEP above 0, got {' '.join(f'{x:g}' for x in span)}")
    count = int((last - first) / step + 1e-6) + 1
    if count > 50:
        raise TuningError(f"{name}: {count} values are too many for a coarse grid; use a larger STEP")
    return [round(first + step * index, 6) for index in range(count)]


def decoder_factory(model_path: Path, alphabet: tuple[str, ...]) -> Callable[[Setting], LanguageModelBeamSearchDecoder]:
    """Return a function that makes a decoder from a setting; all of them share one loaded model."""
    encoder = TEXT_ENCODERS.build({"type": "CTCCharTextEncoder", "args": {"alphabet": list(alphabet[1:])}})
    model = LanguageModel.load(model_path, alphabet)
    source = SimpleNamespace(load=lambda _: model)

    def make(setting: Setting) -> LanguageModelBeamSearchDecoder:
        return LanguageModelBeamSearchDecoder(encoder, source, **setting._asdict())

    return make
