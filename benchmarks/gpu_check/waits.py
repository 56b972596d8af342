"""Where a step waits for the device, how many kernels it launches, and how much of the time the device is busy."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_check.networks import PUBLISHED, new_step, speech_batches, take
from benchmarks.gpu_check.report import Options, Report, Row, judge
from hw_asr.runtime.devices import set_numerics, synchronize

ALLOWED_WAITS = 9
"""Three of a step, and six copies of lengths inside torch's CTC."""


def run(options: Options, report: Report) -> None:
    """Count waits by line, then profile one step."""
    set_numerics(tf32=True, deterministic=False)
    step = new_step(options, augmentations=PUBLISHED)
    batches = speech_batches(options, 4, 4 if options.quick else 20, grouped=False)
    for position, batch in enumerate(batches[:2]):
        take(step, batch, position)
    if options.on_gpu:
        counts = _waits(lambda: take(step, batches[2], 2))
        judge(report, "waits of a step", sum(counts.values()), ALLOWED_WAITS)
        for place, count in counts.most_common():
            report(Row(f"  {place}", f"{count}"))
    _profile(options, report, lambda: take(step, batches[3], 3))


def _waits(run_step: object) -> Counter[str]:
    """Return how often each line waits, as torch's synchronisation debug mode reports it."""
    assert callable(run_step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run_step()
        torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if "synchroniz" in str(warning.message).lower()
    )


def _profile(options: Options, report: Report, run_step: object) -> None:
    assert callable(run_step)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.on_gpu else [])]
    synchronize(options.device)
    with profile(activities=activities, acc_events=True) as profiler:
        start = time.perf_counter()
        run_step()
        synchronize(options.device)
        seconds = time.perf_counter() - start
    events = profiler.key_averages()
    field = "self_device_time_total" if options.on_gpu else "self_cpu_time_total"
    if options.on_gpu:
        launches = sum(event.count for event in events if event.key.startswith(("cudaLaunch", "cuLaunch")))
        busy = sum(event.self_device_time_total for event in events) / 1e6
        report(Row("kernel launches of a step", f"{launches}"))
        report(Row("device busy", f"{busy / seconds:.0%} of {1000 * seconds:.0f} ms, profiler included"))
    for event in sorted(events, key=lambda event: -float(getattr(event, field)))[:6]:
        report(Row(f"  {event.key[:60]}", f"{getattr(event, field) / 1000:.1f} ms, {event.count} times"))
