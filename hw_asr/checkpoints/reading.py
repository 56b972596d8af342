"""Reading a checkpoint as tensors and plain data, without running code from it."""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from hw_asr.errors import UserError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.dtype, torch.device, torch.Size)


class CheckpointError(UserError):
    """A file that is no checkpoint, is cut short, or does not fit the model."""


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint as plain data and tensors.

    The published checkpoints hold pickled objects of the program that wrote them. Those, and whatever else a pickle
    names that is no tensor or container, become inert `Stub`s which are then left out: nothing in the file is called.

    Raises CheckpointError when the file is missing, cut short, or no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint{_in_same_directory(path)}")
    _check_sums(path)
    try:
        loaded = torch.load(path, map_location=device, pickle_module=_INERT_PICKLE, weights_only=False)
    except Exception as error:  # whatever a foreign or damaged file provokes in the reader is a fact about the file
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {_first_line(error)}") from error
    state = _plain(loaded)
    if not isinstance(state, dict) or not isinstance(state.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of hw_asr: it has no `state_dict`")
    return state


class Stub:
    """Stands where a pickle names a class that is neither tensor nor container; takes everything, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        """Ignore the constructor's arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.content: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Stub:
        """Stand in for a function, too."""
        return Stub()

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes a pickled object had."""
        self.content = state if isinstance(state, dict) else {}

    def append(self, item: Any) -> None:
        """Take the items of a pickled list subclass."""

    extend = append

    def add(self, item: Any) -> None:
        """Take the items of a pickled set subclass."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take the items of a pickled dict subclass."""


class _InertUnpickler(pickle.Unpickler):
    """Finds tensors, their storages and containers; every other global is a Stub."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the allowed global, or the Stub class."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[(module, name)]
        if module == "torch" and name in _TORCH_NAMES:
            return getattr(torch, name)
        return Stub


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "Counter"): collections.Counter,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{("builtins", each.__name__): each for each in (set, frozenset, list, dict, tuple, int, float, complex)},
}
_TORCH_NAMES = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_INERT_PICKLE = SimpleNamespace(
    __name__="inert", Unpickler=_InertUnpickler, load=lambda file, **options: _InertUnpickler(file).load()
)


def _plain(value: Any) -> Any:
    """Drop stubs, except that a pickled config object is replaced by the plain dict it carries."""
    if isinstance(value, Stub):
        config = value.content.get("_config")
        return _plain(config) if isinstance(config, Mapping) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not isinstance(key, Stub)}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value if isinstance(value, _PLAIN) else None


def _check_sums(path: Path) -> None:
    """Compare the archive's checksums, which torch writes but does not read; a flipped bit is no weight."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: not a checkpoint, or one that was cut short: {_first_line(error)}") from error
    except (
        Exception
    ) as error:  # a flipped bit may say that a member is encrypted or compressed: any error of the readers
        raise CheckpointError(f"{path}: damaged, or no checkpoint: {_first_line(error)}") from error
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of {damaged} inside is wrong")


def _in_same_directory(path: Path) -> str:
    there = sorted(each.name for each in path.parent.glob("*.pth"))
    return f"; {path.parent} has {', '.join(there)}" if there else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
