"""Averages the weights of checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.commands.output_files import check_file
from hw_asr.experiment.changed_features import changed_features

logger = logging.getLogger(__name__)


def average_checkpoints(paths: Sequence[Path], output: Path) -> None:
    """Write a checkpoint with the mean weights of others; its other entries are those of the last one.

    Raises CheckpointError when a file is no checkpoint, or when their architectures or alphabets differ, OutputError
    when `output` cannot be written.
    """
    check_file(output, "--output", paths)
    loaded = [load_checkpoint(path) for path in paths]
    for path, checkpoint in zip(paths, loaded, strict=True):
        alphabets = [state.get("alphabet") for state in (checkpoint, loaded[-1])]
        if None not in alphabets and alphabets[0] != alphabets[1]:
            raise CheckpointError(f"{path}: its alphabet differs from that of {paths[-1]}; their classes do not match")
        changed = changed_features(checkpoint.get("config"), loaded[-1].get("config"))
        if changed:
            logger.warning("%s was trained on other features than %s: %s", path, paths[-1], ", ".join(changed))
    kept = {name: loaded[-1].get(name) for name in ("arch", "epoch", "alphabet", "config")}
    state_dict = average([checkpoint["state_dict"] for checkpoint in loaded], paths)
    save_checkpoint({**kept, "state_dict": state_dict}, output)


def average(state_dicts: Sequence[Mapping[str, Tensor]], paths: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of every floating-point tensor, running statistics included; other tensors are the last one's.

    Raises CheckpointError when names or shapes differ; the message names the files of `paths`.
    """
    shapes = [{name: value.shape for name, value in state_dict.items()} for state_dict in state_dicts]
    last = shapes[-1]
    for path, own in zip(paths, shapes, strict=True):
        if own != last:
            unlike = sorted(name for name in own.keys() | last.keys() if own.get(name) != last.get(name))
            raise CheckpointError(f"{path}: architecture differs from that of {paths[-1]}: see {', '.join(unlike[:3])}")
    result = {}
    for name, value in state_dicts[-1].items():
        if value.is_floating_point():
            zero = torch.zeros((), dtype=torch.float64)
            total = sum((state_dict[name].double() for state_dict in state_dicts), zero)
            result[name] = (total / len(state_dicts)).to(value.dtype)
        else:
            result[name] = value
    return result
