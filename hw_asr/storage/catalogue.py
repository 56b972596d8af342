"""What people call runs and checkpoints on a storage: by name, `latest`, or `best`, which its config defines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import hw_asr.storage  # noqa: F401  -- fills the registry
from hw_asr.config.registry import STORAGES
from hw_asr.storage.external import ExternalStorage, RemoteFile, RemoteRun, StorageError
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX, CONFIG_NAME, RunId, checkpoint_file

BEST = "best"
LATEST = "latest"
BEST_CHECKPOINT = "model_best"
"""What training calls the best checkpoint of a run."""


class Catalogue(NamedTuple):
    """A storage and what its config calls best."""

    storage: ExternalStorage
    best_run: RunId | None
    best_checkpoint: str

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """Read `{"type", "args", "best": {"run", "checkpoint"}?}`, or an experiment's config that has a storage.

        Raises StorageError with every fault.
        """
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(f"{path}: cannot read the storage config: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{path}: not JSON: {error}") from None
        if isinstance(spec, dict) and isinstance(spec.get("trainer"), dict):
            spec = spec["trainer"].get("external_storage")
            if spec is None:
                raise StorageError(f"{path}: this experiment has no trainer.external_storage")
        best = spec.pop("best", None) if isinstance(spec, dict) else None
        faults = [*STORAGES.check(spec, "storage"), *_best_faults(best)]
        if faults:
            raise StorageError("\n".join(f"{path}: {fault}" for fault in faults))
        try:
            storage = STORAGES.build(spec)
        except ValueError as error:
            raise StorageError(f"{path}: storage.args.{error}") from None
        run = RunId.parse(best["run"]) if best else None
        return cls(storage, run, best.get("checkpoint", BEST_CHECKPOINT) if best else BEST_CHECKPOINT)

    def find_run(self, name: str) -> RunId:
        """Return the run called EXPERIMENT:RUN, `latest` (changed last) or `best`; StorageError when there is none."""
        if name == BEST:
            if self.best_run is None:
                raise StorageError("run 'best': the storage config has no `best`; name the run as EXPERIMENT:RUN")
            return self.best_run
        if name == LATEST:
            runs = self.storage.runs()
            if not runs:
                raise StorageError("run 'latest': the storage has no runs")
            times = {run.id: self._modified(run) for run in runs}
            if len(runs) > 1 and not any(times.values()):
                raise StorageError(f"run 'latest': the storage gives no dates{nearest_of('', list(map(str, times)))}")
            return max(times, key=times.__getitem__)
        return RunId.parse(name)

    def _modified(self, run: RemoteRun) -> float:
        """Return when a run or one of its files was changed; 0 where the storage gives no dates."""
        return max([run.modified, *(file.modified for file in self.storage.files(run.id, checksums=False))])

    def files(self, run: RunId, checksums: bool = True) -> dict[str, RemoteFile]:
        """The files of a run by name; StorageError that names the nearest runs when there is no such run."""
        files = {file.name: file for file in self.storage.files(run, checksums)}
        if not files:
            known = [str(run.id) for run in self.storage.runs()]
            raise StorageError(f"run {run}: not on the storage{nearest_of(str(run), known)}")
        return files

    def find_files(self, run: RunId, names: Sequence[str], checksums: bool = True) -> list[RemoteFile]:
        """Return the run's config and the checkpoints of these names, `latest` or `best`; without names the best.

        Raises StorageError that names the nearest when one is missing.
        """
        files = self.files(run, checksums)
        checkpoints = {name: file.modified for name, file in files.items() if name.endswith(CHECKPOINT_SUFFIX)}
        best = self.best_checkpoint if run == self.best_run else BEST_CHECKPOINT
        wanted = dict.fromkeys([CONFIG_NAME, *(choose(name, checkpoints, best) for name in names or [BEST])])
        for name in wanted:
            if name not in files:
                raise StorageError(f"run {run}: has no {name} on the storage{nearest_of(name, files)}")
        return [files[name] for name in wanted]


def choose(name: str, checkpoints: dict[str, float], best: str = BEST_CHECKPOINT) -> str:
    """Return the file name meant by a checkpoint's name, `latest` or `best`; `checkpoints` maps names to times."""
    if name == LATEST:
        if not checkpoints:
            raise StorageError("checkpoint 'latest': the run has no checkpoints")
        if len(checkpoints) > 1 and not any(checkpoints.values()):
            raise StorageError(f"checkpoint 'latest': the storage gives no dates{nearest_of('', checkpoints)}")
        return max(checkpoints, key=checkpoints.__getitem__)
    return checkpoint_file(best if name == BEST else name)


def nearest_of(name: str, known: Collection[str]) -> str:
    """Return "; nearest: a, b" or, of few names, "; there are: a, b, c"."""
    if not known:
        return "; there are none"
    if len(known) <= 8:
        return f"; there are: {', '.join(sorted(known))}"
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.3)
    return f"; nearest of {len(known)}: {', '.join(close)}" if close else f"; none of {len(known)} is near; see `list`"


def _best_faults(best: object) -> list[str]:
    if best is None:
        return []
    if not isinstance(best, dict) or not all(
        isinstance(value, str) for value in (best.get("run"), best.get("checkpoint", BEST_CHECKPOINT))
    ):
        return [f'best: expected {{"run": "EXPERIMENT:RUN", "checkpoint": "NAME"}}, got {best!r}']
    return [f"best.{key}: unknown key; known: checkpoint, run" for key in best if key not in ("run", "checkpoint")]
