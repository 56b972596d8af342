"""Transfer to another corpus and alphabet against training from scratch, with equal processor time on the new corpus.

    python -m benchmarks.transfer --data DIR --source-steps 2200 --steps 200 400 --seeds 0

DIR is that of `benchmarks.recipes`. The source model is trained on speechocean762 and ljspeech with `ours` of that
benchmark. It is then transferred to arctic, with an alphabet in another order and without the apostrophe; the other
model starts from scratch. Both take the same steps, so the same processor time. Prints the character error rate on the
dev set of arctic, argmax, last weights. About 12 minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import recipes
from hw_asr.commands.score_table import totals

SOURCES, TARGET = ("speechocean762", "ljspeech"), "arctic"
ALPHABET = " zyxwvutsrqponmlkjihgfedcba"


def main() -> None:
    """Train three models for every seed and print what they reach."""
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    print(f"{'model':10}{'seed':>5}{'steps':>7}{'minutes':>9}{'CER in %':>10}   dev set of {TARGET}", flush=True)
    for seed in options.seeds:
        source = options.work / f"source-{seed}"
        seconds = recipes.train(config(SOURCES, options.source_steps, seed, options.data), source)
        print(f"{'source':10}{seed:5}{options.source_steps:7}{seconds / 60:9.1f}", flush=True)
        for steps in options.steps:
            compare(source, steps, seed, options)


def compare(source: Path, steps: int, seed: int, options: argparse.Namespace) -> None:
    """Train from scratch and from `source`, and print what both reach."""
    rates = []
    start = ("-r", str(recipes.checkpoint(source)))
    for name, arguments in (("scratch", ()), ("transfer", start)):
        directory = options.work / f"{name}-{steps}-{seed}"
        seconds = recipes.train(config([TARGET], steps, seed, options.data), directory, *arguments)
        rates.append(character_error_rate(directory, options.data))
        print(f"{name:10}{seed:5}{steps:7}{seconds / 60:9.1f}{100 * rates[-1]:10.2f}", flush=True)
    print(f"transfer: {100 * (1 - rates[1] / rates[0]):.1f} % fewer character errors than from scratch", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--source-steps", type=int, default=2200, help="default 2200")
    parser.add_argument("--steps", type=int, nargs="+", default=[200], help="on the new corpus (default 200)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path("saved/transfer"), help="default: saved/transfer")
    return parser.parse_args()


def config(corpora: Sequence[str], steps: int, seed: int, data: Path) -> dict[str, Any]:
    """Return `ours` for some corpora; that of the target has the other alphabet."""
    raw = recipes.config(recipes.OURS, seed, argparse.Namespace(steps=steps, data=data, changes=[]))
    datasets = raw["data"]["train"]["datasets"]
    raw["data"]["train"]["datasets"] = [
        spec for spec in datasets if spec["args"]["data"].removesuffix("/train.jsonl") in corpora
    ]
    if TARGET in corpora:
        raw["text_encoder"]["args"]["alphabet"] = ALPHABET
    return raw


def character_error_rate(directory: Path, data: Path) -> float:
    """Return the corpus rate of a run's last weights on the target's dev set."""
    return totals(recipes.score(directory, data, [TARGET], [{"type": "argmax"}]))["argmax"]["cer"].corpus


if __name__ == "__main__":
    main()
