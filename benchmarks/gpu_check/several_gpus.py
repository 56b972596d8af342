"""Two processes, each with a GPU: gradients, running out of memory on one, the exchange's speed, one killed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.gpu_check.networks import model_name, new_model, take
from benchmarks.gpu_check.report import BAD, OK, Options, Report, Row, expect, judge
from benchmarks.training_steps import MODELS, SAMPLE_RATE, make_batches
from hw_asr.batch import Batch
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.runtime.devices import set_numerics, synchronize
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.training.step_result import OUT_OF_MEMORY

TIMEOUT = timedelta(seconds=60)
Task = Callable[[Options, Processes], Any]


def run(options: Options, report: Report) -> None:
    """Compare two processes with one; leaves everything out where there is one GPU."""
    if options.on_gpu and torch.cuda.device_count() < 2:
        report(Row("left out", "this machine has one GPU"))
        return
    single = _together(options, 1, train)[0]
    pair = _together(options, 2, train)
    for rank, result in enumerate(pair):
        problems = result["problems"]
        expect(report, f"process {rank}, out of memory on process 1", problems[1] == OUT_OF_MEMORY, str(problems))
    moved = (single["weights"] - single["initial"]).norm()
    difference = float((pair[0]["weights"] - single["weights"]).norm() / moved)
    judge(report, "updates, against one process with the double batch", difference, 1e-2)
    expect(report, "both processes have the same weights", torch.equal(pair[0]["weights"], pair[1]["weights"]))
    megabytes = 1 if options.quick else 126
    seconds = min(_together(options, 2, all_reduce))
    report(Row(f"all-reduce of {megabytes} MB", f"{1000 * seconds:.1f} ms"))
    error = _together(options, 2, lose_a_peer, may_die=True)[0]
    report(Row("one of them killed", f"the other: {error}", OK if error is not None else BAD))


def train(options: Options, processes: Processes) -> dict[str, Any]:
    """Take three steps, the second without memory on process 1; alone, with the batches of both and without it."""
    set_numerics(tf32=False, deterministic=False)
    step = make_step(options, processes)
    initial = _weights(step)
    problems = []
    for position, batch in enumerate(make_batches(3, 4, 0.3, 0.7 if options.quick else 3.0)):
        if processes.size == 1 and position == 1:
            continue
        own = batch if processes.size == 1 else _half(batch, processes.rank)
        handle = None
        if processes.rank == 1 and position == 1:
            last = step.model.linear
            assert isinstance(last, torch.nn.Module)
            handle = last.register_forward_hook(_fail)
        problems.append(take(step, own, position).problem)
        if handle is not None:
            handle.remove()
    return {"initial": initial, "weights": _weights(step), "problems": problems}


def make_step(options: Options, processes: Processes) -> TrainingStep:
    """Return a step with a plain optimiser, whose result follows the gradient."""
    name = model_name(options)
    model = new_model(name).to(processes.device)
    mel = MelSpectrogram(SAMPLE_RATE, n_mels=MODELS[name][0])
    front_end = FeatureExtractor(mel, log=True).to(processes.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    settings = StepSettings(grad_norm_clip=1.0)
    return TrainingStep(model, front_end, Augmentations(), CTCLoss(), optimizer, processes, settings)


def all_reduce(options: Options, processes: Processes) -> float:
    """Return the seconds of summing a network's gradients."""
    values = torch.zeros((1 if options.quick else 126) * 250_000, device=processes.device)
    seconds = []
    for _ in range(5):
        synchronize(processes.device)
        start = time.perf_counter()
        processes.sum_tensor(values)
        synchronize(processes.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def lose_a_peer(options: Options, processes: Processes) -> str | None:
    """Kill process 1; return what process 0 hears of it."""
    processes.sum([1.0])
    if processes.rank == 1:
        os._exit(9)
    started = time.monotonic()
    try:
        processes.sum([1.0])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        return f"{reason} (after {time.monotonic() - started:.0f} s)"
    return None


def _weights(step: TrainingStep) -> Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in step.model.parameters()])


def _half(batch: Batch, rank: int) -> Batch:
    rows = slice(2 * rank, 2 * rank + 2)
    return Batch(
        batch.utterances[rows], batch.samples[rows], batch.sample_lengths[rows], batch.targets[rows],
        batch.target_lengths[rows],
    )  # fmt: skip


def _fail(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory (simulated)")


def _together(options: Options, size: int, task: Task, may_die: bool = False) -> list[Any]:
    """Run a task in forked processes that are connected; return their results by rank."""
    context = multiprocessing.get_context("fork")
    folder = options.folder / f"processes-{task.__name__}-{size}"
    folder.mkdir()
    children = [context.Process(target=_member, args=(options, rank, size, task, folder)) for rank in range(size)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    codes = [child.exitcode for child in children]
    if any(codes) and not may_die:
        raise RuntimeError(f"{task.__name__}: exit codes {codes}")
    files = [folder / f"{rank}.pt" for rank in range(size)]
    return [torch.load(file, weights_only=True) if file.is_file() else None for file in files]


def _member(options: Options, rank: int, size: int, task: Task, folder: Path) -> None:
    device = torch.device("cuda", rank) if options.on_gpu else torch.device("cpu")
    if options.on_gpu:
        torch.cuda.set_device(device)
    if size > 1:
        backend = "nccl" if options.on_gpu else "gloo"
        extra: dict[str, Any] = {"device_id": device} if options.on_gpu else {}
        where = f"file://{folder}/meet"
        dist.init_process_group(backend, init_method=where, rank=rank, world_size=size, timeout=TIMEOUT, **extra)
    torch.save(task(options, Processes(rank, size, device)), folder / f"{rank}.pt")
    if task is lose_a_peer:
        os._exit(0)  # the group cannot be left in order
    if size > 1:
        dist.destroy_process_group()
