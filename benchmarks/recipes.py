"""Training recipes side by side: the same data, about the same processor time for each, the same dev sets.

    python -m benchmarks.recipes --data DIR --steps 800 --seeds 0 1 2 --only ours published --arpa lm.arpa

DIR holds speechocean762, arctic and ljspeech, each a folder with train.jsonl and dev.jsonl. `ours` is
hw_asr/configs/small_real.json for --steps steps, made quicker (`QUICK`) for so short a time; `published` is the
published recipe with as many units as such a budget allows, stopped when it has used the processor time that `ours`
took, or --minutes; every other variant changes one thing of ours and takes as many steps as cost the same. Training
does not look at the dev sets; the last weights are scored.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hw_asr.commands.score_table import totals
from hw_asr.config import override
from hw_asr.metrics import ErrorRate

OURS, PUBLISHED = "ours", "published"
CONFIGS = Path("hw_asr/configs")
DEV_SETS = ("speechocean762", "arctic", "ljspeech")
UNITS = 128
"""Of the published recipe's 512 per direction and layer; its six layers stay."""


CORPORA = [
    {"type": "CustomAudioDataset", "args": {"data": "speechocean762/train.jsonl", "max_audio_length": 16}},
    {"type": "CustomAudioDataset", "args": {"data": "arctic/train.jsonl"}},
    {"type": "CustomAudioDataset", "args": {"data": "ljspeech/train.jsonl"}},
]
QUICK = (
    "augmentations={}",
    'arch.args.gru_config={"hidden_dims": [192, 192, 192], "bidirectional": true, "dropout": 0.1}',
    "arch.args.intermediate_layers=[]",
    'loss={"type": "CTCLoss"}',
    "optimizer.args.lr=0.003",
    "optimizer.args.weight_decay=0.01",
    "lr_scheduler.args.max_lr=0.003",
    "trainer.ema_decay=0.995",
    "data.train.batch_sampler.args.max_seconds=40",
    f"data.train.datasets={json.dumps(CORPORA)}",
)
"""What a few minutes ask of small_real, as for --set: fewer units, no inner loss, a higher rate, plain speech."""


class Variant(NamedTuple):
    """What is changed of ours, as for --set, and how many steps cost what one of ours does."""

    changes: tuple[str, ...] = ()
    steps: float = 1.0


STEADY = ('optimizer={"type": "Adam", "args": {"lr": 6e-4}}', "lr_scheduler=null")
RANDOM_BATCHES = ("data.train.batch_sampler=null", "data.train.batch_size=10")
SPEED = '{"type": "SpeedPerturbation", "args": {"p": 0.5, "factors": [0.9, 1.1]}}'
MASKS = (
    '{"type": "SpecAugment", "args": '
    '{"num_freq_masks": 1, "freq_mask_param": 15, "num_time_masks": 1, "time_mask_param": 20}}'
)
INTERMEDIATE = ("arch.args.intermediate_layers=[1]", 'loss={"type": "CTCLoss", "args": {"intermediate_weight": 0.3}}')
CONFORMER = (
    'arch={"type": "Conformer", "args": {"dim": 144, "num_layers": 6, "num_heads": 4, "ffn_dim": 576, '
    '"kernel_size": 15, "dropout": 0.1}}',
    "optimizer.args.lr=0.001", "lr_scheduler.args.max_lr=0.001", "lr_scheduler.args.pct_start=0.2",
)  # fmt: skip
VARIANTS = {
    OURS: Variant(),
    "time stride 2, not 4": Variant(("arch.args.cnn_config.stride=[[2, 2], [2, 1]]",), 0.6),
    "features not normalised": Variant(("preprocessing.normalize=none",)),
    "Adam at a steady 6e-4": Variant(STEADY),
    "batches at random": Variant(RANDOM_BATCHES),
    "no pass with the short ones first": Variant(("data.train.batch_sampler.args.short_first=false",)),
    "no average of weights": Variant(("trainer.ema_decay=null",)),
    "no dropout": Variant(("arch.args.gru_config.dropout=0",)),
    "speed perturbation": Variant((f"augmentations.wave=[{SPEED}]",)),
    "SpecAugment": Variant((f"augmentations.spectrogram=[{MASKS}]",)),
    "256 units": Variant(("arch.args.gru_config.hidden_dims=[256,256,256]",), 0.7),
    "intermediate CTC": Variant(INTERMEDIATE),
    "self-conditioned CTC": Variant((*INTERMEDIATE, "arch.args.self_conditioning=true")),
    "Conformer": Variant(CONFORMER, 0.4),
}


def main() -> None:
    """Train and score what was asked for; print a line for each as it comes."""
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    print(
        f"{'recipe':34}{'seed':>5}{'steps':>7}{'minutes':>9}   corpus WER / CER in %, {', '.join(DEV_SETS)}; then all"
    )
    for seed in options.seeds:
        budget = 60 * options.minutes if options.minutes else None
        for name in options.only:
            directory = options.work / f"{name.replace(' ', '_')}-{seed}"
            seconds = train(config(name, seed, options), directory, budget=budget if name == PUBLISHED else None)
            if name == OURS:
                budget = seconds
            report(name, seed, directory, seconds, options)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800, help="of ours (default 800)")
    parser.add_argument("--minutes", type=float, help="processor time of the published recipe; default: what ours took")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[OURS, PUBLISHED], choices=[*VARIANTS, PUBLISHED], metavar="NAME")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="KEY=VALUE", help="of ours")
    parser.add_argument("--arpa", type=Path, help="language model for the third decoder")
    parser.add_argument("--work", type=Path, default=Path("saved/recipes"), help="default: saved/recipes")
    return parser.parse_args()


def config(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return a recipe's config, without evaluation."""
    small: dict[str, Any] = json.loads((CONFIGS / "small_real.json").read_text(encoding="utf-8"))
    if name == PUBLISHED:
        path = CONFIGS / "1+6/kaggle_deepspeech2_1+6_bidir_gru.json"
        recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        recipe["arch"]["args"]["gru_config"]["hidden_dims"] = UNITS
        recipe["text_encoder"] = small["text_encoder"]  # so that both are scored on the same references
        recipe["data"]["train"]["datasets"] = small["data"]["train"]["datasets"]
        recipe["trainer"] = {"epochs": 1, "len_epoch": 100_000, "grad_norm_clip": recipe["trainer"]["grad_norm_clip"]}
    else:
        variant = VARIANTS[name]
        steps = round(options.steps * variant.steps)
        schedule = (f"lr_scheduler.args.total_steps={steps}", "trainer.epochs=1", f"trainer.len_epoch={steps}")
        recipe = override(override(small, [*QUICK, *schedule, *options.changes]), variant.changes)
    trainer = {"seed": seed, "monitor": "off", "num_threads": 1, "wandb_run": "run", "log_step": 50}
    recipe |= {"name": "recipe", "data": {"root_dir": str(options.data), "train": recipe["data"]["train"]}}
    recipe["data"]["train"]["num_workers"] = 1
    return {**recipe, "trainer": {**recipe["trainer"], **trainer}}


def train(raw: dict[str, Any], directory: Path, *arguments: str, budget: float | None = None) -> float:
    """Train with `arguments` of train.py until the end, or until `budget` is spent; return processor seconds."""
    if directory.exists():
        raise SystemExit(f"{directory} exists: remove it, or give another --work")
    directory.mkdir()
    raw["trainer"]["save_dir"] = str(directory)
    path = directory / "config.json"
    path.write_text(json.dumps(raw, indent=2), encoding="utf-8")
    with (directory / "log.txt").open("w", encoding="utf-8") as log:
        command = [sys.executable, "train.py", "-c", str(path), "-d", "cpu", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        seconds, stopped = 0.0, False
        while process.poll() is None:
            seconds = processor_seconds(process.pid) or seconds
            if budget is not None and seconds >= budget and not stopped:
                process.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(0.5)
    if process.returncode not in (0, 128 + signal.SIGTERM):
        raise SystemExit(f"training failed, see {directory / 'log.txt'}")
    return seconds


def processor_seconds(process_id: int) -> float:
    """Return the processor time of a process, its workers aside; 0 once it has ended (Linux)."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(name: str, seed: int, directory: Path, seconds: float, options: argparse.Namespace) -> None:
    """Score the last weights with every decoder and print a line for each."""
    decoders: list[dict[str, Any]] = [{"type": "argmax"}, {"type": "beam_search"}]
    if options.arpa:
        weights = {"language_model": str(options.arpa), "alpha": 0.8, "beta": 1.0}
        decoders.append({"type": "lm_beam_search", "args": weights})
    entries = score(directory, options.data, DEV_SETS, decoders)
    steps = steps_of(directory)
    print(f"{name:34}{seed:5}{steps:7}{seconds / 60:9.1f}")
    parts = [[entry for entry in entries if entry["split"] == name] for name in DEV_SETS]
    for decoder in [spec["type"] for spec in decoders]:
        scored = [totals(part)[decoder] for part in [*parts, entries]]
        print(
            f"  {decoder:20}" + "   ".join(f"{percent(rates['wer'])} /{percent(rates['cer'])}" for rates in scored),
            flush=True,
        )


def score(directory: Path, data: Path, dev_sets: Sequence[str], decoders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of output.json for the dev sets below `data`, from the last weights of a run."""
    splits = {
        name: {"batch_size": 32, "datasets": [{"type": "CustomAudioDataset", "args": {"data": f"{name}/dev.jsonl"}}]}
        for name in dev_sets
    }
    overlay = {"data": {"root_dir": str(data), **splits}, "decoders": decoders}
    (directory / "overlay.json").write_text(json.dumps(overlay), encoding="utf-8")
    output = directory / "output.json"
    command = [sys.executable, "test.py", "-r", str(checkpoint(directory)), "-d", "cpu", "-o", str(output)]
    subprocess.run([*command, "-c", str(directory / "overlay.json")], check=True, stdout=subprocess.DEVNULL)
    entries: list[dict[str, Any]] = json.loads(output.read_text(encoding="utf-8"))
    return entries


def checkpoint(directory: Path) -> Path:
    """Return the last checkpoint of a run."""
    return directory / "models/recipe/run/last.pth"


def steps_of(directory: Path) -> int:
    """Return how many steps a run has taken."""
    lines = (directory / "log/recipe/run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["step"])


def percent(rate: ErrorRate) -> str:
    """Lay out a corpus rate."""
    return f"{100 * rate.corpus:6.2f}"


if __name__ == "__main__":
    main()
