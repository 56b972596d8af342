"""What the weights of a checkpoint must be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.checkpoints.errors import CheckpointError


def check_tensors(state_dict: object, source: Path) -> dict[str, Tensor]:
    """Return `state_dict`; CheckpointError unless it maps names to dense tensors of real numbers."""
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(f"{source}: its weights are not a mapping of names to tensors")
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{source}: a weight is named {name!r:.60}, expected a string")
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_complex():
            raise CheckpointError(f"{source}: weight {name!r:.60} is not a dense tensor of real numbers")
    return dict(state_dict)
