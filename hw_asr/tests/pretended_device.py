"""A device that does not exist: its tensors keep their values on the CPU and refuse operations with CPU tensors.

Without a GPU, this finds what a GPU would refuse, operations on tensors of two devices, and counts where the CPU would
wait for it. torch calls the device "meta"; what a real one does by itself (autocast, cuDNN's recurrence, generators,
STFT frames) is done on the values.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hw_asr.augmentations import noise, reverberation
from hw_asr.models import forward
from hw_asr.models.gru import FrameGRU
from hw_asr.models.packing import Packing

DEVICE = torch.device("meta")
COPIES = ("aten::_to_copy", "aten::copy_")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")
"""torch takes indices on the CPU for tensors on any device."""
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::repeat_interleave")
"""Operations whose result the CPU needs before it can continue."""
INSIDE_TORCH = {"aten::_ctc_loss": 3, "aten::_ctc_loss_backward": 3}
"""Copies of lengths to the device that CUDA kernels of torch 2.11 make themselves, waiting for each."""
_PACKAGE = Path(forward.__file__).resolve().parents[1]
_waits: list[str] = []


class MixedDevicesError(AssertionError):
    """An operation on tensors of two devices."""


class Pretended(Tensor):
    """A tensor that claims to be on DEVICE; `values` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Pretended:
        """Take the values' shape and type."""
        made: Pretended = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), values.stride(), values.storage_offset(), dtype=values.dtype, device=DEVICE
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation on such a tensor."""
        return _run(operation, args, kwargs or {})

    def tolist(self) -> Any:
        """Return the values; torch's own refuses subclasses."""
        _note_wait("tolist")
        return values_of(self).tolist()


class _Dispatch(TorchDispatchMode):
    """Sees operations that create tensors, too."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def values_of(value: Any) -> Any:
    """Return the values of a tensor on DEVICE; anything else unchanged."""
    return value.detach().values if isinstance(value, Pretended) else value


@contextmanager
def counted_waits() -> Iterator[list[str]]:
    """Collect one entry, `file.py:line operation`, for each time the CPU would wait for the device inside."""
    _waits.clear()
    yield _waits


def _note_wait(name: str, times: int = 1) -> None:
    own = [frame for frame in traceback.extract_stack() if _PACKAGE in Path(frame.filename).resolve().parents]
    own = [frame for frame in own if Path(frame.filename).parent.name not in ("tests", "runtime")]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "torch"
    _waits.extend([f"{place} {name}"] * times)


def _note_if_it_waits(name: str, is_here: bool, tensors: list[Any], kwargs: dict[str, Any], args: Any) -> None:
    """Note an operation for which a GPU's results or a copy would have to be complete."""
    touches = is_here or any(isinstance(tensor, Pretended) for tensor in tensors)
    if not touches:
        return
    if name in COPIES:
        crosses = is_here != all(isinstance(tensor, Pretended) for tensor in tensors)
        non_blocking = kwargs.get("non_blocking", False) or (name == "aten::copy_" and len(args) > 2 and args[2])
        if crosses and not (non_blocking and is_here):
            _note_wait(name)
    elif name in READS:
        _note_wait(name)
    elif name in INDEXING and any(tensor.dtype is torch.bool for tensor in tensors[1:]):
        _note_wait(f"{name} by a mask")
    elif name in INDEXING and not all(isinstance(tensor, Pretended) for tensor in tensors):
        _note_wait(f"{name} by indices on the CPU")
    elif name in INSIDE_TORCH:
        _note_wait(name, INSIDE_TORCH[name])


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = operation._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    lengths_only = name in INSIDE_TORCH
    others = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.dim() > 0]
    indices_only = name in INDEXING and isinstance(args[0], Pretended) and not any(map(torch.is_floating_point, others))
    if here and others and name not in COPIES and not indices_only and not lengths_only:
        raise MixedDevicesError(f"{name} of {[(type(each).__name__, tuple(each.shape)) for each in tensors]}")
    chosen = kwargs.get("device")
    is_here = bool(here) if chosen is None else torch.device(chosen) == DEVICE
    if name == "aten::copy_":
        is_here = isinstance(args[0], Pretended)
    if is_here and any(isinstance(leaf, torch.Generator) for leaf in tree_leaves((args, kwargs))):
        raise MixedDevicesError(f"{name} on the device by a generator of the CPU")
    _note_if_it_waits(name, is_here, tensors, kwargs, args)
    if chosen is not None:
        kwargs = {**kwargs, "device": "cpu"}
    if name == "aten::view":  # the values may be laid out in memory differently than torch believes
        operation = torch.ops.aten.reshape.default
    inner = {id(each.values): each for each in here}
    result = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if not is_here:
        return args[0] if name == "aten::copy_" else result

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return inner[id(value)] if id(value) in inner else Pretended(value)

    return tree_map(outer, result)


def _inner(value: Any) -> Any:
    return value.values if isinstance(value, Pretended) else value


def _on_values(function: Callable[..., Tensor], waits: bool) -> Callable[..., Tensor]:
    """Make a function that changes shapes in place, which torch would not notice, work on the values."""

    def run(*args: Any, **kwargs: Any) -> Tensor:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            raise MixedDevicesError(function.__name__)
        if waits and isinstance(tensors[0], Pretended):
            _note_wait(function.__name__)
        result = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        return Pretended(result) if isinstance(tensors[0], Pretended) else result

    return run


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Let DEVICE exist inside."""
    make = torch.tensor

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        made = make(data, **kwargs)
        return made if device is None else made.to(device)

    def new_tensor(self: Tensor, data: Any) -> Tensor:
        return make(data, dtype=self.dtype).to(self.device)

    def white_noise(size: int, seed: int, device: torch.device) -> Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device, non_blocking=True)

    def recurrence(self: FrameGRU, rows: Tensor, packing: Packing) -> Tensor:
        return self._on_cpu(rows, packing.batch_sizes.tolist())

    patches: list[Any] = [
        mock.patch.object(torch, "tensor", tensor),
        mock.patch.object(Tensor, "new_tensor", new_tensor),
        mock.patch.object(torch, "stft", _on_values(torch.stft, waits=False)),
        mock.patch.object(torch, "istft", _on_values(torch.istft, waits=True)),
        mock.patch.object(noise, "white_noise", white_noise),
        mock.patch.object(reverberation, "white_noise", white_noise),
        mock.patch.object(forward, "autocast", lambda device, precision: nullcontext()),
        mock.patch.object(FrameGRU, "_by_torch", recurrence),
    ]
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            stack.enter_context(_Dispatch())
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
