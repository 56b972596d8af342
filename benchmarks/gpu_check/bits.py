"""Whether training repeats bit for bit: run twice, and interrupted and continued."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from benchmarks.gpu_check.networks import PUBLISHED, new_step, short_batches, take
from benchmarks.gpu_check.report import BAD, NOTE, OK, Options, Report, Row
from hw_asr.runtime.devices import set_numerics


def run(options: Options, report: Report) -> None:
    """Take the same steps again, and from a copy of the state in the middle, with and without `deterministic`."""
    number = 4 if options.quick else 20
    for deterministic in (True, False):  # in this order: cuBLAS reads its setting when it is first used
        set_numerics(tf32=True, deterministic=deterministic)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        first, second = weights_after(options, number), weights_after(options, number)
        resumed = weights_after(options, number, interrupted=True)
        required = deterministic or not options.on_gpu
        label = "deterministic" if deterministic else "default kernels"
        for name, other in ((f"{number} steps twice, {label}", second), (f"interrupted and resumed, {label}", resumed)):
            difference = float((first - other).abs().max())
            same = torch.equal(first, other)
            verdict = OK if same else BAD if required else NOTE
            report(Row(name, "the same bits" if same else f"weights differ by up to {difference:.2g}", verdict))


def weights_after(options: Options, number: int, *, interrupted: bool = False) -> Tensor:
    """Return all weights after a number of steps; `interrupted`: half of them by a new step from the saved state."""
    step = new_step(options, augmentations=PUBLISHED)
    for position, batch in enumerate(short_batches(options, number)):
        if interrupted and position == number // 2:
            model_state = copy.deepcopy(step.model.state_dict())
            optimizer_state = copy.deepcopy(step.optimizer.state_dict())
            step = new_step(options, augmentations=PUBLISHED)
            step.model.load_state_dict(model_state)
            step.optimizer.load_state_dict(optimizer_state)
        take(step, batch, position)
    return torch.cat([parameter.detach().flatten().cpu() for parameter in step.model.parameters()])
