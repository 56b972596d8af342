"""Speed and word error rate of our decoders beside a textbook search and pyctcdecode, on one core, alternately.

    python -m benchmarks.decoding --texts sentences.txt [--arpa lm.arpa] [--emissions emissions.npz] [--widths 10 100]

Peers that are not installed are skipped with a line. With --emissions the log-probabilities are those of a trained
model, as `scripts/language_model/tune.py --log-probs` keeps them, else they are made from the texts.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from benchmarks import emissions, textbook_search
from hw_asr.decoders.beam_search import BeamSearchDecoder, PrefixSearch
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.text.encoder import CTCCharTextEncoder

Decode = Callable[[NDArray[np.float32]], str]
OURS = "ours"
PRUNING: dict[str, tuple[float | None, float | None]] = {
    OURS: (-8.0, 12.0),
    "ours, pruned at -7, 9": (-7.0, 9.0),
    "ours, pruned at -6, 8": (-6.0, 8.0),
    "ours, pruned as the peer": (-5.0, 10.0),  # pyctcdecode's defaults
    "ours, nothing pruned": (None, None),
}
"""Values of symbol_floor and beam_threshold; the first are the defaults."""


def main() -> None:
    """Run every engine at every width and print speed, WER and the ratio to ours."""
    options = parse_arguments()
    texts = options.texts.read_text(encoding="utf-8").splitlines() if options.texts else []
    texts = [text for text in texts if 20 <= len(text) < 160][:: options.stride][: options.num]
    for difficulty in options.difficulty:
        if options.emissions:
            data = emissions.read(options.emissions, options.num, options.frame_seconds)
        else:
            data = emissions.synthesise(texts, difficulty)
        kind = (
            str(options.emissions) if options.emissions else f"synthetic, faults at {difficulty:.0%} of the characters"
        )
        print(f"\n{kind}: {len(data.references)} utterances, {data.seconds:.0f} s, {len(data.alphabet)} classes")
        print(f"{'LM':4}{'width':>6}  {'engine':24}{'x real time':>12}{'WER %':>8}{'ours is':>10}")
        for language_model, width in itertools.product([False, True] if options.arpa else [False], options.widths):
            compare(engines(options, data, width, language_model), data, options.repeat, language_model, width)
        if options.emissions:
            break


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=Path, help="normalised sentences, one a line, for synthetic log-probabilities")
    parser.add_argument("--emissions", type=Path, help="log-probabilities of a trained model, .npz")
    parser.add_argument("--frame-seconds", type=float, default=0.0125, help="time between frames of --emissions")
    parser.add_argument("--arpa", type=Path, help="a word n-gram model for the fused searches")
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 50, 100, 500])
    parser.add_argument("--difficulty", type=float, nargs="+", default=[0.06, 0.12], help="share of faulty characters")
    parser.add_argument("--num", type=int, default=40, help="utterances (default 40)")
    parser.add_argument("--stride", type=int, default=97, help="take every so many sentences (default 97)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each engine, of which the median counts")
    parser.add_argument("--slow-width", type=int, default=100, help="widest beam for the textbook search (default 100)")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--beta", type=float, default=1.5)
    parser.add_argument("--unknown", type=float, default=-10.0, help="offset of unknown words, in nats")
    options = parser.parse_args()
    if not options.texts and not options.emissions:
        parser.error("give --texts or --emissions")
    return options


def engines(
    options: argparse.Namespace, data: emissions.Emissions, width: int, language_model: bool
) -> dict[str, Decode]:
    """Return what decodes one utterance to its best text, by name."""
    encoder = CTCCharTextEncoder(data.alphabet[1:])
    result: dict[str, Decode] = {}
    for name, (floor, threshold) in PRUNING.items():
        common: dict[str, Any] = {"beam_size": width, "num_threads": 1}
        common |= {"symbol_floor": floor, "beam_threshold": threshold}
        if language_model:
            weights = {"alpha": options.alpha, "beta": options.beta, "unknown_word_offset": options.unknown}
            result[name] = _ours(LanguageModelBeamSearchDecoder(encoder, options.arpa, **weights, **common))
        else:
            result[name] = _ours(BeamSearchDecoder(encoder, **common))
    if not language_model and width <= options.slow_width:
        result["textbook, Python"] = lambda log_probs: textbook_search.decode(log_probs, data.alphabet, width)
    if importlib.util.find_spec("pyctcdecode") is None:
        print("pyctcdecode is not installed: skipped")
    elif language_model and importlib.util.find_spec("kenlm") is None:
        print("kenlm is not installed: pyctcdecode with a language model is skipped")
    else:
        result["pyctcdecode"] = _pyctcdecode(options, data, width, language_model)
    return result


def compare(
    decoders: dict[str, Decode], data: emissions.Emissions, repeat: int, language_model: bool, width: int
) -> None:
    """Run the engines in turn, `repeat` times, and print a row for each."""
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    texts: dict[str, list[str]] = {}
    for decode in decoders.values():
        decode(data.log_probs[0])
    for name, decode in [pair for _ in range(repeat) for pair in decoders.items()]:
        begin = time.process_time()
        texts[name] = [decode(log_probs) for log_probs in data.log_probs]
        seconds[name].append(time.process_time() - begin)
    ours = statistics.median(seconds[OURS])
    for name in decoders:
        median = statistics.median(seconds[name])
        rate = 100 * word_error_rate(texts[name], data.references)
        ratio = "" if name == OURS else f"{median / ours:.1f}x"
        with_model = "LM" if language_model else "-"
        print(f"{with_model:4}{width:6}  {name:24}{data.seconds / median:12.1f}{rate:8.2f}{ratio:>10}", flush=True)


def word_error_rate(texts: list[str], references: list[str]) -> float:
    """Return the corpus word error rate."""
    pairs = [(text.split(), reference.split()) for text, reference in zip(texts, references, strict=True)]
    return sum(Levenshtein.distance(*pair) for pair in pairs) / sum(len(reference) for _, reference in pairs)


def _ours(decoder: PrefixSearch) -> Decode:
    def decode(log_probs: NDArray[np.float32]) -> str:
        return decoder(torch.from_numpy(log_probs)[None], torch.tensor([len(log_probs)]))[0][0].text

    return decode


def _pyctcdecode(options: argparse.Namespace, data: emissions.Emissions, width: int, language_model: bool) -> Decode:
    import pyctcdecode

    labels = ["", *data.alphabet[1:]]
    if language_model:
        weights = {"alpha": options.alpha, "beta": options.beta, "unk_score_offset": options.unknown}
        decoder = pyctcdecode.build_ctcdecoder(labels, str(options.arpa), **weights)
    else:
        decoder = pyctcdecode.build_ctcdecoder(labels)
    return lambda log_probs: str(decoder.decode(log_probs, beam_width=width))


if __name__ == "__main__":
    main()
