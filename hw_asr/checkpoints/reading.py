"""Reading a checkpoint as tensors and plain data, with a reader that can do nothing but read.

Neither pickle nor torch.load is used. The archive is checked (`archive`), its pickle is turned into records
(`pickle_nodes`), and of those the ones that mean tensors and plain data are built (`plain_data`). One reader serves the
checkpoints of this program, which torch.load(weights_only=True) reads as well, and the published ones, which hold
objects of the program that wrote them: such an object becomes None, except that its `_config` is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw_asr.checkpoints.archive import open_archive
from hw_asr.checkpoints.errors import CheckpointError, FormatError
from hw_asr.checkpoints.pickle_nodes import read_nodes
from hw_asr.checkpoints.plain_data import PlainData
from hw_asr.checkpoints.tensors import check_tensors

__all__ = ["CheckpointError", "load_checkpoint"]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content: plain data and tensors on the CPU; `state_dict` maps names to tensors.

    Nothing in the file is executed, and memory and time are bounded by its size. Raises CheckpointError, one line with
    the file's name, when it is missing, damaged, or not a checkpoint.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint{_in_same_directory(path)}")
    try:
        with open_archive(path) as archive:
            data = PlainData(archive)
            state = data.build(read_nodes(archive.pickle()))
            archive.verify_others(data.keys_read)
    except FormatError as error:
        raise CheckpointError(f"{path}: {_one_line(error)}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: does not fit in memory") from error
    if not isinstance(state, dict) or not isinstance(state.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of hw_asr: it has no `state_dict`")
    check_tensors(state["state_dict"], path)
    return state


def _in_same_directory(path: Path) -> str:
    names = sorted(other.name for other in path.parent.glob("*.pth"))
    return f"; {path.parent} has {', '.join(names[:20])}" if names else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
