"""The optimiser of a config."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.config.registry import OPTIMIZERS
from hw_asr.experiment.optimizer_groups import parameter_groups

if TYPE_CHECKING:
    from torch import nn

_FUSED = ("Adam", "AdamW", "SGD")
"""Optimisers of torch with a fused form for the CPU and for CUDA."""


def build_optimizer(config: ExperimentConfig, model: nn.Module) -> Optimizer:
    """Return the optimiser for the model's trainable parameters.

    The fused implementation is the default where it exists for the device. Raises ConfigError for a form that the
    device does not have.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    provided: dict[str, object] = {"params": trained}
    if config.optimizer.get("groups"):
        provided["params"] = parameter_groups(config.optimizer, model)
    chosen = config.optimizer.get("args", {}).keys() & {"fused", "foreach", "differentiable"}
    devices = {parameter.device.type for parameter in trained}
    has_fused = config.optimizer["type"] in _FUSED and OPTIMIZERS.accepts(config.optimizer, "fused")
    if has_fused and devices <= {"cpu", "cuda"} and not chosen:
        provided["fused"] = True
    with _without_compiler():
        optimizer: Optimizer = OPTIMIZERS.build(config.optimizer, **provided)
    if "cpu" in devices and any(group.get("capturable") and not group.get("fused") for group in optimizer.param_groups):
        raise ConfigError(["optimizer.args.capturable: needs a GPU, and this run is on the CPU; remove this key"])
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.get("lr_scale", 1.0)
    return optimizer


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Keep torch from importing its compiler, which takes a second, only to exclude a method of optimisers from it."""
    decorated = Optimizer.add_param_group
    Optimizer.add_param_group = inspect.unwrap(decorated)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Optimizer.add_param_group = decorated  # type: ignore[method-assign]
