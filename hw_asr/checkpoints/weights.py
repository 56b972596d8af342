"""The weights of a checkpoint and of a model: loading, and selecting parts by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.tensors import check_tensors

_MAX_KNOWN = 20


def load_weights(model: torch.nn.Module, state_dict: Mapping[str, object], source: Path) -> None:
    """Load weights into a model. Raises CheckpointError when they do not fit."""
    model.load_state_dict(check_weights(model, state_dict, source))


def check_finite(weights: Mapping[str, Tensor], source: Path) -> None:
    """Raise CheckpointError when a weight is NaN or infinite: recognition and training with it would be useless."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"{source}: {name} is not finite: training has diverged; use an earlier checkpoint")


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


def belongs_to(name: str, parts: Iterable[str]) -> bool:
    """Whether a weight's name is one of `parts`, or begins with one of them and a dot."""
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def check_parts(parts: Sequence[str], names: Iterable[str], path: str) -> list[str]:
    """List the faults of a list of parts in a config, at `path`: parts to which none of the weights `names` belongs."""
    names, faults = list(names), []
    for index, part in enumerate(parts):
        if not any(belongs_to(name, [part]) for name in names):
            depth = part.count(".") + 1
            known = sorted({".".join(name.split(".")[:depth]) for name in names})
            close = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"names begin with {', '.join(known[:_MAX_KNOWN])}"
            faults.append(f"{path}[{index}]: no weight belongs to {part!r}; {hint}")
    return faults
