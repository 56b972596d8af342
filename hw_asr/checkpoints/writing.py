"""Writing a checkpoint: tensors and plain data, complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.runtime.atomic_files import sync_directory, temporary_path, write_and_rename


def save_checkpoint(state: Mapping[str, Any], path: Path, *copies: Path) -> None:
    """Write `state`, which holds tensors and plain data only, to `path` and, as hard links, to `copies`.

    A kill at any instant leaves each name with either its old or its new content.
    Raises CheckpointError when the file cannot be written.
    """
    try:
        with write_and_rename(path) as file:
            torch.save(dict(state), file)
        for copy in copies:
            link_checkpoint(path, copy)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise CheckpointError(f"{path}: the checkpoint could not be written: {error}") from error


def link_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a further name, replacing the file of that name; a copy where there are no hard links."""
    part = temporary_path(target)
    try:
        part.hardlink_to(source)
    except OSError:  # a file system without hard links
        with source.open("rb") as file, write_and_rename(target) as copy:
            shutil.copyfileobj(file, copy)
        return
    part.replace(target)
    sync_directory(target.parent)
