"""Choose alpha, beta and beam width of decoding with a language model, on a dev split of a checkpoint's config."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.entry_point import run_command

if TYPE_CHECKING:
    from hw_asr.lm.tuning.search import DecoderFactory
    from hw_asr.types import CTCDecoder

EXAMPLES = """examples:
  tune.py -r saved/models/EXP/RUN/model_best.pth --split val --lm lm.arpa -o overlay.json
  tune.py -r model_best.pth --split val --lm lm.arpa -o overlay.json --log-probs val.npz
  tune.py --log-probs val.npz --lm other.arpa.gz -o other.json --alphas 0.2 1.4 0.2 --betas 0 4 1
"""


class TuningError(UserError):
    """Arguments that do not fit together, or data that is not for tuning."""


def arguments() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    span = ("FIRST", "LAST", "STEP")
    add(
        "-r", "--resume", type=Path, metavar="CKPT", help="the checkpoint; its run's config.json says what the split is"
    )
    add("-c", "--config", type=Path, metavar="PATH", help="overlay on that config, for example with a dev set")
    add("--split", default="val", help="the split to tune on (default: val)")
    add("--lm", required=True, help="ARPA file, .gz too, or the name of a LibriSpeech model")
    add("--lm-dir", type=Path, default=Path("lms"), help="where models named so are kept (default: lms)")
    add("-o", "--output", type=Path, required=True, metavar="PATH", help="the overlay for test.py -c")
    add("--picture", type=Path, metavar="PATH", help="the heat map (default: the overlay's name with .png)")
    add("--log-probs", type=Path, metavar="NPZ", help="log-probabilities: read from here, or kept here when not there")
    add("--alphas", nargs=3, type=float, default=[0.0, 2.0, 0.4], metavar=span, help="coarse grid (default: 0 2 0.4)")
    add("--betas", nargs=3, type=float, default=[-2.0, 6.0, 2.0], metavar=span, help="coarse grid (default: -2 6 2)")
    add("--refinements", type=int, default=3, metavar="N", help="how often the steps are halved (default: 3)")
    add("--unknown", nargs="*", type=float, default=[-20, -15, -10, -5, 0], metavar="NATS",
        help="unknown_word_offset values to try (default: -20 -15 -10 -5 0)")  # fmt: skip
    add("--beams", nargs="+", type=int, default=[10, 25, 50, 100, 200], metavar="N",
        help="widths to try in the end (default: 10 25 50 100 200)")  # fmt: skip
    add(
        "--search-beam", type=int, default=50, metavar="N", help="width while alpha and beta are searched (default: 50)"
    )
    add("--limit", type=int, metavar="N", help="use N utterances, drawn at random")
    add("-b", "--batch-size", type=int, default=16, help="utterances per batch in the model (default: 16)")
    add("-d", "--device", help="GPU indices, or cpu")
    add(
        "--i-know",
        action="store_true",
        help="tune on data that is called test: what test.py says of it is then no result",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = arguments().parse_args(argv)
    try:
        return run(args)
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def run(args: argparse.Namespace) -> int:
    """Tune, print, write overlay and picture."""
    alphas, betas = grid("--alphas", args.alphas), grid("--betas", args.betas)
    check(args)
    from hw_asr.commands.dev_emissions import load_or_compute
    from hw_asr.lm.librispeech import resolve
    from hw_asr.lm.tuning.heat_map import plot
    from hw_asr.lm.tuning.search import Setting, overlay, table, tune

    emissions = load_or_compute(args)
    if args.limit:
        emissions = emissions.head(args.limit)
    model_path = resolve(args.lm, args.lm_dir)
    start = Setting(0.0, 0.0, -10.0, args.search_beam)
    factory = decoder_factory(model_path, emissions.alphabet)
    found = tune(emissions, factory, start, alphas, betas, args.unknown, args.beams, args.refinements)
    print(f"{len(emissions.references)} utterances of {', '.join(emissions.origin)}; {model_path}")
    print(table(found))
    with write_and_rename(args.output, "w") as file:
        json.dump(overlay(found.best.setting, model_path), file, indent=2, ensure_ascii=False)
        file.write("\n")
    picture = args.picture or args.output.with_suffix(".png")
    plot(found, picture, f"{model_path.name} on {emissions.origin[0]}, {len(emissions.references)} utterances")
    print(f"overlay: {args.output} (python test.py -r CKPT -c {args.output})\nheat map: {picture}")
    return 0


def check(args: argparse.Namespace) -> None:
    """Raise TuningError for values that cannot be, before anything is loaded."""
    for name in ("search_beam", "batch_size", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise TuningError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")
    if min(args.beams) < 1:
        raise TuningError(f"--beams: expected widths of at least 1, got {min(args.beams)}")
    if args.refinements < 0:
        raise TuningError(f"--refinements: expected 0 or more, got {args.refinements}")
    if min(args.alphas[:2]) < 0:
        raise TuningError(f"--alphas: expected weights of 0 or more, got {args.alphas[0]:g} to {args.alphas[1]:g}")
    if args.resume is None and (args.log_probs is None or not args.log_probs.is_file()):
        raise TuningError("nothing to tune on: give a checkpoint with -r, or a file of an earlier run with --log-probs")


def grid(name: str, span: list[float]) -> list[float]:
    """Return FIRST, FIRST + STEP, ... up to LAST; raises TuningError when there are none, or too many."""
    first, last, step = span
    if not all(map(math.isfinite, span)) or step <= 0 or last < first:
        raise TuningError(f"{name}: expected FIRST <= LAST and a STEP above 0, got {' '.join(f'{x:g}' for x in span)}")
    count = int((last - first) / step + 1e-6) + 1
    if count > 50:
        raise TuningError(f"{name}: {count} values are too many for a coarse grid; take a larger STEP")
    return [round(first + step * index, 6) for index in range(count)]


def decoder_factory(model_path: Path, alphabet: tuple[str, ...]) -> DecoderFactory:
    """Return what makes decoders; they share one loaded model."""
    import hw_asr.text  # noqa: F401 - makes the text encoders' names known
    from hw_asr.config.registry import TEXT_ENCODERS
    from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
    from hw_asr.lm.language_model import LanguageModel
    from hw_asr.lm.tuning.search import Setting

    encoder = TEXT_ENCODERS.build({"type": "CTCCharTextEncoder", "args": {"alphabet": list(alphabet[1:])}})
    model = LanguageModel.load(model_path, alphabet)
    source = SimpleNamespace(load=lambda _: model)

    def make(setting: Setting) -> CTCDecoder:
        return LanguageModelBeamSearchDecoder(encoder, source, n_best=1, **setting._asdict())

    return make


if __name__ == "__main__":
    run_command(main)
