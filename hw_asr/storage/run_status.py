"""What a storage knows about a run in progress: who trains it, how far it is, and which file continues it.

The status is a small JSON file beside the checkpoints. The machine that trains rewrites it every few seconds, which
shows others that the run is alive.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from hw_asr.storage.external import ExternalStorage
from hw_asr.storage.run_names import CHECKPOINT_SUFFIX, RunId, is_safe_name

STATUS_NAME = "status.json"
_MAX_BYTES = 10_000
State = Literal["running", "stopped", "finished"]
_STATES: tuple[State, ...] = ("running", "stopped", "finished")


@dataclass(frozen=True)
class RunStatus:
    """The content of the status file."""

    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identifies one process that trains."""
    host: str = field(default_factory=lambda: f"process {os.getpid()} on {socket.gethostname()}")
    state: State = "running"
    beat: int = 0
    """Grows with every rewriting."""
    interval: float = 30.0
    """Seconds between two rewritings."""
    checkpoint: str = ""
    """Name of the newest file to continue from; empty when there is none."""
    step: int = 0
    """Its optimiser step."""
    md5: str = ""
    epochs: int = 0
    """Epochs of a run that is finished."""
    best: str = ""
    """The best value of `trainer.monitor` so far, for people."""

    def next_beat(self) -> RunStatus:
        """Return the status to write next."""
        return replace(self, beat=self.beat + 1)


def write_status(storage: ExternalStorage, run: RunId, status: RunStatus) -> None:
    """Replace the status of a run; raises StorageError."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, STATUS_NAME)
        path.write_text(json.dumps(asdict(status), indent=2), encoding="utf-8")
        storage.upload(path, run, STATUS_NAME)


def read_status(storage: ExternalStorage, run: RunId) -> RunStatus | None:
    """Return the status of a run; None when there is none, or the file is not a status. Raises StorageError."""
    files = {file.name: file for file in storage.files(run, checksums=False)}
    if STATUS_NAME not in files or files[STATUS_NAME].size > _MAX_BYTES:
        return None
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, STATUS_NAME)
        storage.download(run, STATUS_NAME, path)
        return _parsed(path.read_bytes()[:_MAX_BYTES])


def _parsed(content: bytes) -> RunStatus | None:
    """Return what the file says; nothing in it is trusted beyond its types."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("state") not in _STATES:
        return None
    known = {name: values[name] for name in RunStatus.__dataclass_fields__ if name in values}
    types: dict[str, type | tuple[type, ...]] = {
        "owner": str, "host": str, "state": str, "beat": int, "interval": (int, float), "checkpoint": str, "step": int,
        "md5": str, "best": str, "epochs": int,
    }  # fmt: skip
    if any(not isinstance(value, types[name]) for name, value in known.items()):
        return None
    name = known.get("checkpoint", "")
    if name and not (is_safe_name(name) and name.endswith(CHECKPOINT_SUFFIX)):
        return None
    return RunStatus(**known)
