"""Peak memory, growth by Fourier transforms of new sizes, and running out of memory in every phase of a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.networks import PUBLISHED, new_step, pinned, speech_batches, take
from benchmarks.gpu_check.report import BAD, OK, Options, Report, Row, expect
from benchmarks.training_steps import noise_batch
from hw_asr.runtime.devices import set_numerics, synchronize
from hw_asr.training.step import TrainingStep
from hw_asr.training.step_result import OUT_OF_MEMORY

MIB = 2**20
MAX_STEPS_WITH_NEW_SIZES = 40


def run(options: Options, report: Report) -> None:
    """Measure and provoke."""
    set_numerics(tf32=True, deterministic=False)
    if options.on_gpu:
        _peaks(options, report)
        _plans(options, report)
    step = new_step(options, augmentations=PUBLISHED)
    batch, following = speech_batches(options, 2, 4 if options.quick else 20, grouped=False)
    take(step, batch, 0)
    needed = _needed(options, step, batch)
    shares = (0.05, 0.3, 0.6, 0.9)  # of what a step needs: features, forward pass, loss, backward pass
    for number, share in enumerate(shares):
        before = _state(step)
        with _little_memory(options, step, share, needed):
            problem = take(step, batch, 1 + number).problem
        name = f"out of memory with {share:.0%} of what a step needs"
        expect(report, name, problem == OUT_OF_MEMORY, problem or "the step went through")
        unchanged = all(map(torch.equal, before, _state(step)))
        after = take(step, following, 1 + number)
        whole = unchanged and after.problem is None
        text = f"weights {'unchanged' if unchanged else 'CHANGED'}, next step {after.problem or 'taken'}"
        report(Row("  afterwards", text, OK if whole else BAD))


def _peaks(options: Options, report: Report) -> None:
    """Report the peak of a usual batch and of the longest one, by precision."""
    generator = torch.Generator().manual_seed(0)
    usual, longest = speech_batches(options, 1, 20, grouped=False)[0], noise_batch(torch.full((20,), 24.0), generator)
    for precision in ("fp32", "fp16"):
        step = new_step(options, precision)
        for name, batch in (("usual batch of 20", usual), ("20 utterances of 24 s", pinned(options, longest))):
            torch.cuda.reset_peak_memory_stats(options.device)
            problem = take(step, batch, 0).problem
            peak = torch.cuda.max_memory_allocated(options.device) / 2**30
            report(Row(f"peak, {precision}, {name}", f"{peak:.1f} GiB{f', {problem}' if problem else ''}"))
        del step
        torch.cuda.empty_cache()


def _plans(options: Options, report: Report) -> None:
    """Report how the cache of Fourier transforms and the memory outside of torch's allocator grow."""
    cache = torch.backends.cuda.cufft_plan_cache[options.device.index or 0]
    step = new_step(options, augmentations=PUBLISHED)
    sizes = []
    for position, batch in enumerate(speech_batches(options, MAX_STEPS_WITH_NEW_SIZES // 2, 20, grouped=False)):
        take(step, batch, position)
        free, total = torch.cuda.mem_get_info(options.device)
        outside = (total - free - torch.cuda.memory_reserved(options.device)) / MIB
        sizes.append((cache.size, outside))
    (first, before), (last, after) = sizes[0], sizes[-1]
    text = f"{first} to {last} of {cache.max_size} in {len(sizes)} steps, {after - before:+.0f} MiB"
    report(Row("plans of Fourier transforms", text))


def _state(step: TrainingStep) -> list[Tensor]:
    return [value.clone() for value in step.model.state_dict().values()]


def _needed(options: Options, step: TrainingStep, batch: Any) -> int:
    """Return the bytes that a step allocates on top of weights and optimiser."""
    if not options.on_gpu:
        return 0
    torch.cuda.reset_peak_memory_stats(options.device)
    resting = torch.cuda.memory_allocated(options.device)
    take(step, batch, 1)
    return torch.cuda.max_memory_allocated(options.device) - resting


@contextmanager
def _little_memory(options: Options, step: TrainingStep, share: float, needed: int) -> Iterator[None]:
    """Leave only a share of the memory a step needs; on a CPU, fail in that phase."""
    if options.on_gpu:
        synchronize(options.device)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(options.device)
        ballast = torch.empty(max(0, free - int(share * needed)), dtype=torch.uint8, device=options.device)
        yield
        del ballast
        torch.cuda.empty_cache()
        return

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    first, last = step.model.cnn_block, step.model.linear
    assert isinstance(first, torch.nn.Module) and isinstance(last, torch.nn.Module)
    handle = {
        0.05: lambda: first.register_forward_pre_hook(fail),
        0.3: lambda: first.register_forward_hook(fail),
        0.6: lambda: last.register_forward_hook(fail),
        0.9: lambda: last.register_full_backward_hook(fail),
    }[share]()
    yield
    handle.remove()
