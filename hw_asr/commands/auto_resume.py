"""`train.py --auto-resume`: the newest run of a config, from this machine or from its external storage."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.writing import link_checkpoint
from hw_asr.config import ExperimentConfig
from hw_asr.config.registry import STORAGES
from hw_asr.storage.external import ExternalStorage, StorageError, StorageUnavailable
from hw_asr.storage.heartbeat import wait_until_stale
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX, RunId, checkpoint_file
from hw_asr.storage.run_status import STATUS_NAME, RunStatus, read_status
from hw_asr.storage.runs import Run, Runs
from hw_asr.training.snapshots import BEST, LAST, load_newest_whole, num_steps

logger = logging.getLogger(__name__)


class Continuation(NamedTuple):
    """What `--auto-resume` found: a run to continue from its `last.pth`, or one that is finished, or none."""

    run: Run | None
    finished: bool = False


class _Remote(NamedTuple):
    """A run in the storage."""

    storage: ExternalStorage
    id: RunId
    modified: float
    """When a file of it changed last, in seconds since 1970."""
    status: RunStatus


def find_run(config: ExperimentConfig) -> Continuation:
    """Find the newest run of a config and bring the newer of its two states, local or stored, to this machine.

    Runs belong to a config by its `name`, and by `trainer.wandb_run` where that is set. Prints one line that says what
    is continued. Raises StorageError when there is nothing here and the storage cannot be asked, RunError when another
    machine trains the run.
    """
    runs = Runs(config.trainer.save_dir)
    local = newest_here(runs, config)
    try:
        remote = _newest_stored(config)
    except StorageUnavailable as error:
        if local is None:
            raise StorageError(
                f"cannot look for an earlier run: {error}; try again later, or start a new run without --auto-resume"
            ) from error
        logger.warning("%s; continuing the run on this machine", error)
        remote = None
    if remote is not None and (local is None or remote.id == local.id or remote.modified > _modified(local)):
        return _continue_stored(remote, runs.at(remote.id), config)
    if local is not None:
        _need_last(local)
        print(f"auto-resume: continuing run {local.id} from {local.checkpoint_path(LAST)}")
        return Continuation(local)
    print(f"auto-resume: no earlier run of {config.name}; starting one")
    _discard_leftover(runs, config)
    return Continuation(None)


def _continue_stored(remote: _Remote, here: Run, config: ExperimentConfig) -> Continuation:
    """Continue a run that the storage has; the state on this machine is used where it is at least as new."""
    step = _step_here(here)
    if step is None or not remote.status.host.endswith(f" on {socket.gethostname()}"):
        # On the machine that trained it, the lock of the run's directory tells whether it is still running.
        wait_until_stale(remote.storage, remote.id, remote.status)
        # That machine may have ended meanwhile, with a newer checkpoint.
        remote = _stored(remote.storage, remote.id) or remote
    status = remote.status
    if status.state == "finished" and config.trainer.epochs <= status.epochs:
        done = "nothing to do"
        if not here.checkpoint_path(LAST).is_file():
            _fetch(remote, here)
            done = f"downloaded to {here.model_dir}; there is nothing to train"
        print(f"auto-resume: run {remote.id} is finished ({status.step} steps); {done}")
        return Continuation(here, finished=True)
    if step is not None and step >= status.step:
        _need_last(here)
        print(f"auto-resume: continuing run {remote.id} from {here.checkpoint_path(LAST)} (step {step})")
    else:
        step = _fetch(remote, here)
        print(f"auto-resume: continuing run {remote.id} from {status.checkpoint} (step {step}) in {remote.storage!r}")
    return Continuation(here)


def _need_last(run: Run) -> None:
    """Make the newest checkpoint `last.pth` too, in a run that was downloaded without one."""
    if not run.checkpoint_path(LAST).is_file():
        link_checkpoint(run.checkpoints()[-1], run.checkpoint_path(LAST))


def _fetch(remote: _Remote, here: Run) -> int:
    """Download what continues a run: its metrics, its best checkpoint, and the newest one, which becomes `last.pth`.

    Returns the step of the newest one.
    """
    status, storage = remote.status, remote.storage
    targets = {here.metrics_path.name: here.metrics_path}
    for name in (here.checkpoint_path(BEST).name, status.checkpoint):
        targets[name] = here.model_dir / name
    checksums = any(path.is_file() for path in targets.values())  # some storages read every file for them
    files = {file.name: file for file in storage.files(remote.id, checksums)}
    for name, path in targets.items():
        if name in files and not files[name].is_copied_to(path):
            storage.download(remote.id, name, path)
    newest = here.model_dir / status.checkpoint
    try:
        step = num_steps(load_checkpoint(newest))
    except CheckpointError as error:
        newest.unlink()
        raise StorageError(f"run {remote.id} in {storage!r}: {status.checkpoint} is damaged ({error})") from error
    if newest != here.checkpoint_path(LAST):
        link_checkpoint(newest, here.checkpoint_path(LAST))
    return step


def newest_here(runs: Runs, config: ExperimentConfig) -> Run | None:
    """Return the run whose checkpoints changed last; runs without checkpoints do not count."""
    own = [run for run in runs.list() if _belongs(run.id, config) and run.checkpoints()]
    return max(own, key=_modified, default=None)


def _newest_stored(config: ExperimentConfig) -> _Remote | None:
    """Return the run in the storage whose files changed last; runs without a checkpoint do not count."""
    if config.trainer.external_storage is None:
        return None
    storage: ExternalStorage = STORAGES.build(config.trainer.external_storage)
    found = [_stored(storage, run.id) for run in storage.runs() if _belongs(run.id, config)]
    return max(filter(None, found), key=lambda remote: remote.modified, default=None)


def _stored(storage: ExternalStorage, run: RunId) -> _Remote | None:
    """Return the present state of a run in the storage; None without a checkpoint."""
    status = read_status(storage, run) or RunStatus(state="stopped")
    files = {file.name: file for file in storage.files(run, checksums=False)}
    checkpoints = [file for file in files.values() if file.name.endswith(CHECKPOINT_SUFFIX)]
    if not checkpoints:
        return None
    last = files.get(checkpoint_file(LAST))
    if status.checkpoint not in files:  # of an older program, or half a run
        newest = max(checkpoints, key=lambda file: file.modified)
        status = replace(status, checkpoint=newest.name, step=0)
    elif last is not None and last.modified > files[STATUS_NAME].modified:
        # Uploaded by a person after its export had failed; how many steps further it is, only the file says.
        status = replace(status, checkpoint=last.name, step=status.step + 1)
    return _Remote(storage, run, max(file.modified for file in files.values()), status)


def _discard_leftover(runs: Runs, config: ExperimentConfig) -> None:
    """Free the name of a run that was killed before its first checkpoint."""
    if config.trainer.wandb_run is None:
        return
    run = runs.at(RunId(config.name, config.trainer.wandb_run))
    if run.model_dir.is_dir():
        with run.lock():  # raises RunError when it is still running
            pass
        run.discard()


def _belongs(run: RunId, config: ExperimentConfig) -> bool:
    return run.experiment == config.name and config.trainer.wandb_run in (None, run.name)


def _modified(run: Run) -> float:
    return max(path.stat().st_mtime for path in run.checkpoints())


def _step_here(run: Run) -> int | None:
    """Return the optimiser step of a run's newest readable checkpoint; None when there is none."""
    checkpoints: list[Path] = run.checkpoints() if run.model_dir.is_dir() else []
    if not checkpoints:
        return None
    last = run.checkpoint_path(LAST)
    try:
        state, _ = load_newest_whole(last if last in checkpoints else checkpoints[-1])
    except CheckpointError:
        return None
    return num_steps(state)
