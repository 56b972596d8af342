"""Writing a checkpoint: tensors and plain data, complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.reading import CheckpointError
from hw_asr.runtime.atomic_files import sync_directory, write_and_rename


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
    """Give a checkpoint a further name, in place of what has it now; a copy where the system knows no hard links."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, part)
    part.replace(target)
    sync_directory(target.parent)
