"""The directory of the run that `train` writes: made, copied or removed, with its config and its log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import distributed

from hw_asr.commands.train_request import Request
from hw_asr.config import ExperimentConfig, read_json
from hw_asr.experiment.config_effects import effects
from hw_asr.experiment.remembered_runs import remember
from hw_asr.experiment.run_copy import copy_run, place_of_copy
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.processes import Processes
from hw_asr.storage.run_names import LOG_NAME, RunError, RunId
from hw_asr.storage.runs import Run, Runs


def new_run(config: ExperimentConfig, processes: Processes) -> Run:
    """Make the run's directory, on the main process; the others get to know its name."""
    runs = Runs(config.trainer.save_dir)
    name: list[Any] = [config.trainer.wandb_run]
    if processes.is_main:
        name = [runs.create(config.name, config.trainer.wandb_run).name]
    if processes.size > 1:
        distributed.broadcast_object_list(name)
    return runs.at(RunId(config.name, name[0]))


@contextmanager
def discarded_unless_started(run: Run) -> Iterator[None]:
    """Remove the run's directory, and so free its name, when the block ends before there is a checkpoint."""
    try:
        yield
    finally:
        if not run.checkpoints():
            set_up_logging(0)  # closes train.log
            run.discard()


def copy_of_run(run: Run, config: ExperimentConfig, request: Request, checkpoint: Path, processes: Processes) -> Run:
    """Return a copy, below trainer.save_dir, of a run whose directory is read-only; it continues from `checkpoint`."""
    copy = place_of_copy(run, save_dir_of_copy(run, config, request))
    if processes.is_main:
        copy_run(run, copy, checkpoint)
    return copy


def save_dir_of_copy(run: Run, config: ExperimentConfig, request: Request) -> Path:
    """Return `trainer.save_dir`, unless it came with somebody else's run and leads out of the current directory."""
    save_dir = config.trainer.save_dir
    given = any(assignment.startswith("trainer.save_dir=") for assignment in request.assignments)
    trusted = given or not (save_dir.is_absolute() or ".." in save_dir.parts)
    return save_dir if trusted else run.model_dir.absolute().parents[2]


def keep_config(config: ExperimentConfig, run: Run) -> None:
    """Write the config, with what the command line changed, where a later continuation reads it."""
    if not run.config_path.is_file() or read_json(run.config_path) != config.raw:
        with write_and_rename(run.config_path, "w") as file:
            json.dump(config.raw, file, indent=2, ensure_ascii=False)
    remember(run.model_dir, effects(config.raw))


def log_path(run: Run, processes: Processes) -> Path | None:
    """Return where the main process writes its log lines; None for the others. RunError when that is impossible."""
    if not processes.is_main:
        return None
    try:
        run.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run.log_dir}: the run's record cannot be written there: {error}") from error
    return run.log_dir / LOG_NAME
