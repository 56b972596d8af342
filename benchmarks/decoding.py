"""Speed and word error rate of the decoders beside other libraries, on one core, in turns, by processor time.

    hw-asr lm-tune -r saved/models/demo/RUN/model_best.pth --split dev --lm saved/demo/lm.arpa -o tuned.json \
        --log-probs demo.npz
    python -m benchmarks.decoding --emissions demo.npz --frame-seconds 0.04 --arpa saved/demo/lm.arpa --widths 100
    python -m benchmarks.decoding --texts sentences.txt --arpa lm.arpa --widths 10 100

Without --emissions the log-probabilities are made from texts. All engines get the same batches, language model, weights
and width, and return an n-best of 10. Libraries that are not installed are skipped with a message:
`pip install --no-deps ctc-beam-decoder flashlight-text pyctcdecode pygtrie hypothesis kenlm-ex`.
With --threads N only our decoders run, with 1 thread and with N, by wall-clock time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rapidfuzz.distance import Levenshtein

from benchmarks import emissions
from benchmarks.decoding_engines import DEFAULT, N_BEST, Decode, Task, engines, ours
from benchmarks.emissions import Batch

OURS = "ours"
BATCH = 50
"""Utterances."""
MIN_SECONDS = 0.2


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
        print(f"{'LM':4}{'width':>6}  {'engine':28}{'x real time':>12}{'us/utt.':>9}{'WER %':>8}{'ours is':>10}")
        for arpa, width in itertools.product([None, options.arpa] if options.arpa else [None], options.widths):
            task = Task(data, arpa, width, options.alpha, options.beta, options.unknown)
            if options.threads:
                compare_threads(task, options.threads, options.repeat)
            else:
                compare(engines(task, options.slow_width), task, options.repeat)
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
    parser.add_argument("--num", type=int, default=200, help="utterances (default 200)")
    parser.add_argument("--stride", type=int, default=97, help="take every so many sentences (default 97)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each engine, of which the median counts")
    parser.add_argument("--slow-width", type=int, default=0, help="widest beam for the textbook search (default: none)")
    parser.add_argument("--threads", type=int, help="compare 1 thread with so many")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--beta", type=float, default=1.5)
    parser.add_argument("--unknown", type=float, default=-10.0, help="offset of unknown words, in nats")
    options = parser.parse_args()
    if not options.texts and not options.emissions:
        parser.error("give --texts or --emissions")
    return options


def compare(decoders: dict[str, Decode], task: Task, repeat: int) -> None:
    """Run the engines in turn, `repeat` times, and print a row for each."""
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    texts: dict[str, list[str]] = {}
    torch.set_num_threads(1)
    batches = task.data.batches(BATCH)
    for decode in decoders.values():
        decode(batches[0])
    for name, decode in [pair for _ in range(repeat) for pair in decoders.items()]:
        spent, lists = timed(decode, batches, time.process_time)
        seconds[name].append(spent)
        assert all(len(n_best) <= N_BEST for n_best in lists)
        texts[name] = [n_best[0] if n_best else "" for n_best in lists]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        rate = 100 * word_error_rate(texts[name], task.data.references)
        ratio = "" if name == OURS else f"{median / medians[OURS]:.1f}x"
        each = 1e6 * median / len(task.data.references)
        print(
            f"{'LM' if task.arpa else '-':4}{task.width:6}  {name:28}{task.data.seconds / median:12.0f}{each:9.0f}"
            f"{rate:8.2f}{ratio:>10}",
            flush=True,
        )


def timed(decode: Decode, batches: list[Batch], clock: Callable[[], float]) -> tuple[float, list[list[str]]]:
    """Decode all batches, again and again for at least `MIN_SECONDS`; return the seconds of a pass, and its lists."""
    begin, num_passes = clock(), 0
    while True:
        lists = [n_best for batch in batches for n_best in decode(batch)]
        num_passes += 1
        spent = clock() - begin
        if spent >= MIN_SECONDS:
            return spent / num_passes, lists


def compare_threads(task: Task, num_threads: int, repeat: int) -> None:
    """Print the wall-clock times of our decoder with one thread and with several."""
    decoders = {count: ours(task, DEFAULT, count) for count in (1, num_threads)}
    seconds: dict[int, list[float]] = {count: [] for count in decoders}
    torch.set_num_threads(1)
    batches = task.data.batches(BATCH)
    for decode in decoders.values():
        decode(batches[0])
    for count, decode in [pair for _ in range(repeat) for pair in decoders.items()]:
        seconds[count].append(timed(decode, batches, time.perf_counter)[0])
    one, several = (min(values) for values in seconds.values())
    print(f"{'LM' if task.arpa else '-':4}{task.width:6}  1 thread {1e3 * one:.1f} ms, {num_threads} threads "
          f"{1e3 * several:.1f} ms: {one / several:.2f}x", flush=True)  # fmt: skip


def word_error_rate(texts: list[str], references: list[str]) -> float:
    """Return the corpus word error rate."""
    pairs = [(text.split(), reference.split()) for text, reference in zip(texts, references, strict=True)]
    return sum(Levenshtein.distance(*pair) for pair in pairs) / sum(len(reference) for _, reference in pairs)


if __name__ == "__main__":
    main()
