"""Continuing a run whose directory is read-only: a copy of it in a writable place."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.writable import is_writable
from hw_asr.storage.run_names import LOG_NAME, RunError
from hw_asr.storage.runs import Run, Runs
from hw_asr.training.snapshots import BEST, LAST

logger = logging.getLogger(__name__)


def place_of_copy(run: Run, save_dir: Path) -> Run:
    """Return the run of the same name below `save_dir`, where its copy belongs.

    Raises RunError when that is read-only too, or has a run of this name.
    """
    copy = Runs(save_dir).at(run.id)
    if copy.model_dir.absolute() == run.model_dir.absolute() or not is_writable(copy.model_dir):
        raise RunError(
            f"{run.model_dir} is read-only; to continue the run in a copy, name a directory for it: "
            "add --set trainer.save_dir=DIRECTORY"
        )
    if copy.checkpoints():
        raise RunError(
            f"{run.model_dir} is read-only, and a copy of the run exists; continue that one: "
            f"python train.py -r {copy.checkpoints()[-1]}"
        )
    return copy


def copy_run(run: Run, copy: Run, checkpoint: Path) -> None:
    """Copy what is needed to continue from `checkpoint`, and the best one; `last.pth` appears when all is there."""
    copy.model_dir.mkdir(parents=True, exist_ok=True)
    copy.log_dir.mkdir(parents=True, exist_ok=True)
    pairs = [(path, copy.model_dir / path.name) for path in (run.config_path, run.model_dir / ".allowed")]
    pairs += [(run.log_dir / name, copy.log_dir / name) for name in (run.metrics_path.name, LOG_NAME)]
    pairs += [(run.checkpoint_path(BEST), copy.checkpoint_path(BEST)), (checkpoint, copy.checkpoint_path(LAST))]
    for source, target in pairs:
        if source.is_file():
            with source.open("rb") as content, write_and_rename(target) as file:
                shutil.copyfileobj(content, file)
    logger.warning("%s is read-only; the run continues in a copy, %s", run.model_dir, copy.model_dir)
