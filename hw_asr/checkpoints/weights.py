"""Loading the weights of a checkpoint into a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.reading import CheckpointError


def load_weights(model: torch.nn.Module, state_dict: Mapping[str, Any], source: Path) -> None:
    """Load weights, saying in what the checkpoint and the model differ when they do.

    Raises CheckpointError.
    """
    state_dict = {name.removeprefix("module."): value for name, value in state_dict.items()}
    own = model.state_dict()
    faults = [f"the checkpoint lacks {name}" for name in own if name not in state_dict]
    faults += [f"the model has no {name}" for name in state_dict if name not in own]
    faults += [
        f"{name} is {list(value.shape)} in the checkpoint and {list(own[name].shape)} in the model"
        for name, value in state_dict.items()
        if name in own and value.shape != own[name].shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckpointError(f"{source}: weights of another architecture or alphabet: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(state_dict)
