"""Choose alpha, beta and beam width of decoding with a language model, on a dev split of a checkpoint's config.

examples:
  hw-asr lm-tune -r saved/models/EXP/RUN/model_best.pth --split val --lm lm.arpa -o overlay.json
  hw-asr lm-tune -r model_best.pth --split val --lm lm.arpa -o overlay.json --log-probs val.npz
  hw-asr lm-tune --log-probs val.npz --lm other.arpa.gz -o other.json --alphas 0.2 1.4 0.2 --betas 0 4 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    span = ("FIRST", "LAST", "STEP")
    add("-r", "--resume", type=Path, metavar="CKPT", help="the checkpoint; its run's config.json defines the split")
    add("-c", "--config", type=config_path, metavar="PATH", help="overlay on that config, for example with a dev set")
    add("--split", help="the split to tune on (default: the config's only split besides train and test)")
    add("--lm", required=True, help="ARPA file, .gz too, or the name of a LibriSpeech model")
    add("--lm-dir", type=Path, default=Path("lms"), help="directory of models given by name (default: lms)")
    add("-o", "--output", type=Path, required=True, metavar="PATH", help="the overlay for test -c")
    add("--picture", type=Path, metavar="PATH", help="the heat map (default: the overlay's name with .png)")
    add("--log-probs", type=Path, metavar="NPZ", help="cache of log-probabilities: read if it exists, else written")
    add("--alphas", nargs=3, type=float, default=[0.0, 2.0, 0.4], metavar=span, help="coarse grid (default: 0 2 0.4)")
    add("--betas", nargs=3, type=float, default=[-2.0, 6.0, 2.0], metavar=span, help="coarse grid (default: -2 6 2)")
    add("--refinements", type=int, default=3, metavar="N", help="how often the steps are halved (default: 3)")
    add("--unknown", nargs="*", type=float, default=[-20, -15, -10, -5, 0], metavar="NATS",
        help="unknown_word_offset values to try (default: -20 -15 -10 -5 0)")  # fmt: skip
    add("--beams", nargs="+", type=int, default=[10, 25, 50, 100, 200], metavar="N",
        help="widths to try at the end (default: 10 25 50 100 200)")  # fmt: skip
    add("--search-beam", type=int, default=50, metavar="N",
        help="width while alpha and beta are searched (default: 50)")  # fmt: skip
    add("--limit", type=int, metavar="N", help="use N utterances, drawn at random")
    add("-b", "--batch-size", type=int, default=16, help="utterances per batch in the model (default: 16)")
    add("-d", "--device", help="GPU indices, or cpu")
    add("--i-know", action="store_true",
        help="tune on data that is called test; results on that data are then no test results")  # fmt: skip
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Tune and write the overlay; return 0."""
    from hw_asr.commands import lm_tune

    lm_tune.run(options)
    return 0
