"""Loading the weights of a checkpoint into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.tensors import check_tensors


def load_weights(model: torch.nn.Module, state_dict: Mapping[str, object], source: Path) -> None:
    """Load weights into a model. Raises CheckpointError when they do not fit."""
    model.load_state_dict(check_weights(model, state_dict, source))


def check_weights(model: torch.nn.Module, state_dict: Mapping[str, object], source: Path) -> dict[str, Tensor]:
    """Return the weights under the model's names (`module.` of DataParallel is removed). The model may be on `meta`.

    Raises CheckpointError listing the differences between checkpoint and model.
    """
    tensors = check_tensors(state_dict, source)
    weights = {name.removeprefix("module."): value for name, value in tensors.items()}
    own = model.state_dict()
    faults = [f"the checkpoint lacks {name}" for name in own if name not in weights]
    faults += [f"the model has no {name}" for name in weights if name not in own]
    faults += [
        f"{name} is {list(value.shape)} in the checkpoint and {list(own[name].shape)} in the model"
        for name, value in weights.items()
        if name in own and value.shape != own[name].shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckpointError(f"{source}: weights of another architecture or alphabet: {'; '.join(faults[:3])}{more}")
    return weights
