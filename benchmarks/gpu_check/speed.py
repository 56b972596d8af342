"""Audio seconds per second of training steps, beside the published step; time by phase, recurrence, loader."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from benchmarks.gpu_check.networks import model_name, new_step, speech_batches, take
from benchmarks.gpu_check.report import Options, Report, Row
from benchmarks.training_steps import SAMPLE_RATE, make_sides
from hw_asr.batch import Batch
from hw_asr.config import read_json
from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.experiment import components
from hw_asr.experiment.split_data import load_split
from hw_asr.experiment.validation import validate
from hw_asr.loss import CTCLoss
from hw_asr.models.forward import run_model
from hw_asr.models.gru import FrameGRU
from hw_asr.models.packing import Packing
from hw_asr.runtime.devices import DeviceError, check_precision, set_numerics, synchronize
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.training.step import TrainingStep


def run(options: Options, report: Report) -> None:
    """Measure, the most telling numbers first."""
    number = 2 if options.quick else 4
    small, large = (2, 4) if options.quick else (20, 64)
    name = model_name(options)
    random = speech_batches(options, number, small, grouped=False)
    report(Row(f"published step, {name}, batch {small}", f"{_published_rate(options, random):.0f} s/s"))
    set_numerics(tf32=True, deterministic=False)
    for precision in ("fp32",) if options.quick else ("fp32", "fp16", "bf16"):
        try:
            check_precision(options.device, precision)
        except DeviceError:
            continue
        for size in (small,) if options.quick else (small, large):
            for grouped in (False, True):
                batches = speech_batches(options, number, size, grouped=grouped)
                step = new_step(options, precision)
                rate = _rate(options, batches, lambda index: take(step, batches[index], index))  # noqa: B023
                order = "grouped" if grouped else "at random"
                report(Row(f"ours, {name}, {precision}, batch {size} {order}", f"{rate:.0f} s/s"))
    _phases(options, report, random)
    _recurrence(options, report)
    _loader(options, report)


def _published_rate(options: Options, batches: list[Batch]) -> float:
    """Return the rate of the published step, its features computed beforehand, with torch's default numerics."""
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    published = make_sides(model_name(options), options.device, "fp32").published
    prepared = [published.features(batch, MelSpectrogram) for batch in batches]
    return _rate(options, batches, lambda index: published.run(prepared[index]))


def _rate(options: Options, batches: list[Batch], run_one: Callable[[int], object]) -> float:
    """Return audio seconds per second; the first batch only warms up, steps that run out of memory count."""
    rates = []
    for index, batch in enumerate(batches):
        synchronize(options.device)
        start = time.perf_counter()
        run_one(index)
        synchronize(options.device)
        rates.append(float(batch.sample_lengths.sum()) / SAMPLE_RATE / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def _phases(options: Options, report: Report, batches: list[Batch]) -> None:
    """Report the milliseconds of each phase of a step, each waited for."""
    step = new_step(options)
    take(step, batches[0], 0)
    for name, seconds in _timed_phases(options, step, batches[1]):
        report(Row(f"  {name}", f"{1000 * seconds:.1f} ms"))


def _timed_phases(options: Options, step: TrainingStep, batch: Batch) -> list[tuple[str, float]]:
    times: list[tuple[str, float]] = []
    clock = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal clock
        synchronize(options.device)
        now = time.perf_counter()
        times.append((name, now - clock))
        clock = now

    step.model.train()
    moved = batch.to(options.device)
    mark("copy to the device")
    features, frames = step._front_end(moved.samples, moved.sample_lengths)
    mark("features")
    log_probs, lengths = run_model(step.model, features, frames, "fp32")
    mark("forward pass")
    loss = CTCLoss()(log_probs, lengths, moved.targets, moved.target_lengths).values.mean()
    mark("CTC")
    loss.backward()
    mark("backward pass, CTC's included")
    nn.utils.clip_grad_norm_(step.model.parameters(), 400.0)
    step.optimizer.step()
    step.optimizer.zero_grad()
    mark("clipping and optimiser")
    return times


def _recurrence(options: Options, report: Report) -> None:
    """Report the time of one layer, forward and backward, on packed rows against a padded tensor."""
    hidden, size, frames = (16, 2, 30) if options.quick else (512, 20, 1200)
    layer = FrameGRU(2 * hidden, hidden, bidirectional=True).to(options.device)
    lengths = torch.linspace(frames // 2, frames, size).long()
    packing = Packing(lengths, frames, options.device)
    rows = torch.randn(packing.num_rows, 2 * hidden, device=options.device)
    padded = torch.randn(frames, size, 2 * hidden, device=options.device)
    for name, run_one in (
        ("packed", lambda: layer._by_torch(rows, packing)),
        ("torch's packed", lambda: nn.GRU.forward(layer, PackedSequence(rows, packing.batch_sizes))[0].data),
        ("padded", lambda: nn.GRU.forward(layer, padded)[0]),
    ):
        seconds = []
        for _ in range(3):
            synchronize(options.device)
            start = time.perf_counter()
            run_one().sum().backward()
            synchronize(options.device)
            seconds.append(time.perf_counter() - start)
        report(Row(f"a GRU layer of {hidden}, {name}", f"{1000 * min(seconds):.1f} ms"))


def _loader(options: Options, report: Report) -> None:
    """Report how fast the workers decode the demo's recordings, without a network."""
    config = validate(read_json(Path("hw_asr/configs/demo.json")), "demo.json")
    dataset = load_split(config, "dev", components.build_text_encoder(config))
    sampler = SequentialBatchSampler(20, Shard(dataset.durations))
    for num_workers in (0,) if options.quick else (0, 2, 4):
        start = time.perf_counter()
        for _ in make_loader(dataset, sampler, num_workers, pin_memory=options.on_gpu):
            pass
        seconds = time.perf_counter() - start
        report(Row(f"loader, {num_workers} workers", f"{float(dataset.durations.sum()) / seconds:.0f} s/s"))
