"""What logging costs, per backend and as a share of training steps: `python -m benchmarks.logging_cost`.

An event is what the trainer reports every `log_step` steps: scalars, a table of predictions with audio, a spectrogram.
Backends take turns; medians are printed beside the median of a training step of the small model of
benchmarks.training_steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hw_asr.writers.background import BackgroundWriter
from hw_asr.writers.base import AudioClip, LoggedRun, Writer
from hw_asr.writers.jsonl import JsonlWriter
from hw_asr.writers.tensorboard import TensorboardWriter
from hw_asr.writers.wandb import WandbWriter

SAMPLE_RATE = 16_000
COLUMNS = ("utterance", "target", "argmax", "beam_search", "probability", "CER", "WER", "audio")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--log-step", type=int, default=50, help="steps between events (default: 50, as in a config)")
    parser.add_argument("--rows", type=int, default=4, help="rows of the table, each with 6 s of audio")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    step_seconds = training_step_seconds()
    print(f"a training step (small model, 8 utterances of 1-6 s, one thread): {1000 * step_seconds:.0f} ms")
    print(f"{'backend':31} {'scalars':>10} {'whole event':>12}   share of {options.log_step} steps")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, (scalars, event) in event_seconds(Path(folder), options.rows, options.rounds).items():
            share = event / (options.log_step * step_seconds)
            print(f"{name:31} {1000 * scalars:7.2f} ms {1000 * event:9.2f} ms   {share:.3%}")


def training_step_seconds() -> float:
    """Return the median duration of a training step."""
    from benchmarks.training_steps import make_batches, make_sides
    from hw_asr.training.stream import Placed

    step = make_sides("small", torch.device("cpu"), "fp32").ours
    durations = []
    for position, batch in enumerate(make_batches(4, 8, 1.0, 6.0)):
        start = time.perf_counter()
        step.run([Placed(batch, 0, position)])
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:])


def event_seconds(folder: Path, num_rows: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return for each backend the medians of the seconds that scalars, and that a whole event, take."""
    os.environ["WANDB_DATA_DIR"] = str(folder)
    run = LoggedRun("run", folder)
    background_run = run._replace(log_dir=folder / "background")
    writers: dict[str, Writer] = {
        "jsonl": JsonlWriter(folder / "metrics.jsonl"),
        "tensorboard": TensorboardWriter(run),
        "wandb": WandbWriter("benchmark", run, mode="offline"),
        "tensorboard, in the background": BackgroundWriter(TensorboardWriter(background_run)),
        "wandb, in the background": BackgroundWriter(WandbWriter("benchmark", run, mode="offline")),
    }
    values = {f"train_{index}": index / 7 for index in range(12)}
    clip = AudioClip(0.1 * torch.randn(6 * SAMPLE_RATE), SAMPLE_RATE)
    rows: list[list[Any]] = [["id", "text" * 20, "text" * 20, "text" * 20, 0.5, 0.1, 0.2, clip]] * num_rows
    pixels = torch.randint(0, 255, (80, 480, 3), dtype=torch.uint8)
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in writers}
    for step in range(rounds):
        for name, writer in writers.items():
            first = seconds_of(writer.scalars, step, values)
            second = seconds_of(writer.table, step, "predictions", COLUMNS, rows)
            third = seconds_of(writer.image, step, "spectrogram", pixels)
            taken[name][0].append(first)
            taken[name][1].append(first + second + third)
            writer.state_dict()  # waits for what is done in the background, so that turns do not overlap
    for writer in writers.values():
        writer.close()
    return {name: (statistics.median(scalars), statistics.median(events)) for name, (scalars, events) in taken.items()}


def seconds_of(action: Callable[..., None], *arguments: Any) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
