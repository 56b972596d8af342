"""Utterances per second from files to features, ours beside transforms per item: `python -m benchmarks.data`.

    python -m benchmarks.data [--manifest corpus.jsonl] [--num 200] [--repeat 3] [--epoch 100000]

The baseline is the common way: each item is decoded, resampled by torchaudio and transformed in the worker, with a new
transform for each item as in the published pipeline, or one for all ("kept"); the collate function pads spectrograms.
Batches of 20, one worker. Then: the share of training time spent waiting for data, with two workers, on the manifest's
recordings; and memory over an epoch of `--epoch` items.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.per_item_data import BATCH_SIZE, RATE, per_item
from hw_asr.config.registry import MODELS, TEXT_ENCODERS
from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import RandomBatchSampler, Shard
from hw_asr.datasets.samplers_by_duration import GroupLengthBatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.features import FeatureExtractor
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.types import TextEncoder, Utterance

for package in ("models", "text"):  # importing them fills the registries
    importlib.import_module(f"hw_asr.{package}")
ENCODER: TextEncoder = TEXT_ENCODERS.build({"type": "CTCCharTextEncoder"})
KINDS = (("wav", RATE), ("flac", RATE), ("wav", 44_100), ("flac", 48_000))


def features_of_ours() -> FeatureExtractor:
    """Return the front end with the published settings."""
    return FeatureExtractor(MelSpectrogram(sample_rate=RATE), log=True)


def ours(utterances: Sequence[Utterance], num_workers: int, device: torch.device | None) -> Iterator[int]:
    """Yield the size of each batch after its features are on `device`, or without one, after its samples are padded."""
    dataset = SpeechDataset(utterances, ENCODER, RATE)
    sampler = GroupLengthBatchSampler(BATCH_SIZE, Shard(dataset.durations))
    features = features_of_ours().to(device)
    for batch in make_loader(dataset, sampler, num_workers, pin_memory=device is not None and device.type == "cuda"):
        if device is not None:
            on_device = batch.to(device)
            features(on_device.samples, on_device.sample_lengths)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        yield len(batch)


def rate_of(run: Callable[[], Iterator[int]]) -> float:
    """Return utterances per second after the first batch, without the start of the worker."""
    batches = run()
    next(batches)
    start = time.perf_counter()
    return sum(batches) / (time.perf_counter() - start)


def recordings(source: Sequence[Utterance], num: int, directory: Path, kind: str, rate: int) -> list[Utterance]:
    """Write `num` recordings of a kind: those of `source`, or noise of 4 to 16 s."""
    random, written = np.random.default_rng(0), []
    for index in range(num):
        if source:
            samples = read_audio(Path(source[index % len(source)].audio_path), rate)
        else:
            samples = random.normal(0, 0.1, int(rate * random.uniform(4, 16))).clip(-1, 1).astype(np.float32)
        path = directory / f"{index}_{rate}.{kind}"
        soundfile.write(path, samples, rate)
        written.append(Utterance(path.name, str(path), "text", len(samples) / rate))
    return written


def compare(source: Sequence[Utterance], num: int, repeat: int, device: torch.device) -> None:
    """Print utterances per second of each pipeline, for each kind of recording."""
    print(f"utterances/s; ours: to features on {device}, or to padded samples only (the part of a worker process)")
    print(f"{'recordings':14}{'per item':>10}{'kept':>10}{'ours':>10}{'ratios':>16}{'samples':>10}{'ratios':>16}")
    for kind, rate in KINDS:
        with tempfile.TemporaryDirectory() as directory:
            utterances = recordings(source, num, Path(directory), kind, rate)
            ways: dict[str, Callable[[], Iterator[int]]] = {
                "ours": partial(ours, utterances, 1, device),
                "samples": partial(ours, utterances, 1, None),
                "new": partial(per_item, utterances, 1, False),
                "kept": partial(per_item, utterances, 1, True),
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(repeat):
                for name, run in ways.items():
                    rates[name].append(rate_of(run))
        median = {name: statistics.median(found) for name, found in rates.items()}
        line = f"{kind} {rate / 1000:g} kHz".ljust(14) + f"{median['new']:10.0f}{median['kept']:10.0f}"
        for name in ("ours", "samples"):
            ratios = [f"{median[name] / median[peer]:.1f}x" for peer in ("new", "kept")]
            line += f"{median[name]:10.0f}{', '.join(ratios):>16}"
        print(line)


def waiting_share(utterances: Sequence[Utterance], num_workers: int, num_steps: int) -> None:
    """Print the share of training time of a small DeepSpeech 2 spent waiting for data."""
    features = features_of_ours()
    sizes = {
        "n_feats": features.n_feats,
        "n_class": len(ENCODER.alphabet),
        "cnn_config": {"output_channels": [16, 16], "filters": [[11, 11], [11, 5]], "stride": [[2, 2], [2, 2]]},
        "gru_config": {"hidden_dims": [192, 192], "bidirectional": True},
    }
    model: Any = MODELS.build({"type": "DeepSpeech2", "args": sizes})
    optimizer = torch.optim.Adam(model.parameters())
    dataset = SpeechDataset(utterances, ENCODER, RATE)
    batches = iter(make_loader(dataset, RandomBatchSampler(BATCH_SIZE, Shard(dataset.durations)), num_workers))
    waited, started, seconds = 0.0, 0.0, 0.0
    for step in range(num_steps + 1):
        before = time.perf_counter()
        batch = next(batches)
        if step == 0:  # the workers start
            started = time.perf_counter()
        else:
            waited += time.perf_counter() - before
        spectrogram, lengths = features(batch.samples, batch.sample_lengths)
        log_probs = model(spectrogram, lengths).log_softmax(-1).transpose(0, 1)
        frames = model.transform_input_lengths(lengths)
        loss: Any = torch.nn.functional.ctc_loss(
            log_probs, batch.targets, frames, batch.target_lengths, zero_infinity=True
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds += float(batch.sample_lengths.sum()) / RATE
    total = time.perf_counter() - started
    speed = seconds / total
    print(f"\n{num_steps} training steps, {num_workers} workers: {waited / total:.2%} waiting, {speed:.0f} x real time")


def memory_over_an_epoch(num_items: int, num_workers: int) -> None:
    """Print the memory of all processes during one epoch; shared pages count once."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.wav"
        soundfile.write(path, np.zeros(RATE // 4), RATE)
        utterances = [Utterance(f"utterance {index}", str(path), "some text", 0.25) for index in range(num_items)]
        dataset = SpeechDataset(utterances, ENCODER, RATE)
        loader = make_loader(dataset, RandomBatchSampler(BATCH_SIZE, Shard(dataset.durations)), num_workers)
        print(f"\nmemory along an epoch of {num_items} items, {num_workers} workers, MB:", end="", flush=True)
        marks = {round(share * (len(loader) - 1)) for share in (0.05, 0.25, 0.5, 0.75, 1.0)}
        for number, _ in enumerate(loader):
            if number in marks:
                iterator: Any = loader._iterator
                processes = ["self", *(worker.pid for worker in iterator._workers)]
                print(f" {sum(map(_proportional_megabytes, processes)):.0f}", end="", flush=True)
        print()


def _proportional_megabytes(process: object) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, help="real recordings; noise without")
    parser.add_argument("--num", type=int, default=200, help="utterances per run")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epoch", type=int, default=100_000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source: list[Utterance] = []
    if options.manifest:
        source = CustomAudioDataset(options.manifest).select(ENCODER.normalize).utterances
    compare(source, options.num, options.repeat, torch.device(options.device))
    if source:
        waiting_share(source, 2, options.steps)
    else:
        print("\nno --manifest: the share of waiting needs real recordings, skipped")
    if Path("/proc/self/smaps_rollup").exists():
        memory_over_an_epoch(options.epoch, 2)


if __name__ == "__main__":
    main()
