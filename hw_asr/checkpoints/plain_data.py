"""Nodes of a checkpoint's pickle to plain data and tensors; whatever is neither becomes None."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.checkpoints.archive import CheckpointArchive
from hw_asr.checkpoints.errors import FormatError
from hw_asr.checkpoints.pickle_nodes import Call, Global, StorageReference

MAX_DEPTH = 100
MAX_NODES = 20_000_000
"""Of the structure with shared parts counted each time, as long as the memory for it would be needed at most."""
_DICTS = {Global("collections", "OrderedDict"), Global("collections", "Counter"), Global("collections", "defaultdict")}
_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = Global("torch._utils", "_rebuild_parameter")
_SIZE = Global("torch", "Size")
_STORAGES = {
    Global("torch", "FloatStorage"): torch.float32,
    Global("torch", "DoubleStorage"): torch.float64,
    Global("torch", "HalfStorage"): torch.float16,
    Global("torch", "BFloat16Storage"): torch.bfloat16,
    Global("torch", "LongStorage"): torch.int64,
    Global("torch", "IntStorage"): torch.int32,
    Global("torch", "ShortStorage"): torch.int16,
    Global("torch", "CharStorage"): torch.int8,
    Global("torch", "ByteStorage"): torch.uint8,
    Global("torch", "BoolStorage"): torch.bool,
}
_DTYPES = {Global("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _STORAGES.values()}
_LEAVES = (type(None), bool, int, float, str, bytes)


class _Built(NamedTuple):
    """A finished part: its value, its depth, and its parts counted with repetition."""

    value: object
    depth: int
    nodes: int


class PlainData:
    """Builds plain data; each storage is read once, and tensors that share one share its memory."""

    def __init__(self, archive: CheckpointArchive) -> None:
        self._archive = archive
        self._storages: dict[str, tuple[torch.dtype, Tensor]] = {}
        self._done: dict[int, _Built] = {}

    @property
    def keys_read(self) -> set[str]:
        """The keys of the storages that tensors refer to."""
        return set(self._storages)

    def build(self, root: object) -> object:
        """Return what the nodes mean, as dict, list, tuple, tensors, dtypes and leaves.

        Iterative, and each node once: neither depth nor sharing costs more than the file is large. Raises FormatError
        for a structure that holds itself, is nested deeper than `MAX_DEPTH`, or is too large with repetitions.
        """
        waiting: list[tuple[object, list[object] | None]] = [(root, None)]
        open_nodes: set[int] = set()
        while waiting:
            node, children = waiting.pop()
            if id(node) in self._done and children is None:
                continue
            if children is None:
                if id(node) in open_nodes:
                    raise FormatError("it contains a circular reference")
                children = _children(node)
                open_nodes.add(id(node))
                waiting.append((node, children))
                waiting += [(child, None) for child in children if id(child) not in self._done]
                continue
            built = [self._done[id(child)] for child in children]
            depth = 1 + max((part.depth for part in built), default=0)
            nodes = _weight(node) + sum(part.nodes for part in built)
            if depth > MAX_DEPTH:
                raise FormatError(f"nested deeper than {MAX_DEPTH} levels")
            if nodes > MAX_NODES:
                raise FormatError(f"more than {MAX_NODES} parts, counting repeated ones")
            self._done[id(node)] = _Built(self._value(node, [part.value for part in built]), depth, nodes)
            open_nodes.discard(id(node))
        return self._done[id(root)].value

    def _value(self, node: object, parts: list[object]) -> object:
        """Return the value of a node whose children, in the order of `_children`, are `parts`."""
        if isinstance(node, Global):
            return _DTYPES.get(node)
        if isinstance(node, Call):
            return self._call(node, parts)
        if isinstance(node, dict):
            return dict(zip(node, parts, strict=True))
        if isinstance(node, (StorageReference, *_LEAVES)):
            return node
        return parts if isinstance(node, list) else tuple(parts)

    def _call(self, node: Call, parts: list[object]) -> object:
        if node.function == _TENSOR:
            return self._tensor(node.args)
        if node.function == _PARAMETER:
            return parts[0] if parts and isinstance(parts[0], Tensor) else None
        if node.function == _SIZE:
            return tuple(parts[0]) if parts and isinstance(parts[0], (list, tuple)) else None
        if node.function in _DICTS:
            return _dict(node, parts)
        # A pickled object of a program that wrote checkpoints with objects in them: only its config is wanted.
        return parts[0] if parts and isinstance(parts[0], dict) else None

    def _tensor(self, args: tuple[object, ...]) -> Tensor:
        if len(args) < 4 or not isinstance(args[0], StorageReference):
            raise FormatError("a tensor without storage")
        offset, size, stride = args[1:4]
        if not (isinstance(offset, int) and isinstance(size, tuple) and isinstance(stride, tuple)):
            raise FormatError("a tensor of impossible size")
        numbers = (offset, *size, *stride)
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers) or len(size) != len(stride):
            raise FormatError("a tensor of impossible size")
        storage = self._storage(args[0])
        count = 1
        for dimension in size:
            count *= dimension
        last = offset + sum((dimension - 1) * step for dimension, step in zip(size, stride, strict=True))
        if count and (last >= len(storage) or count > len(storage)):
            raise FormatError("a tensor larger than its data")
        return storage.as_strided(size, stride, offset) if count else storage.new_empty(size)

    def _storage(self, reference: StorageReference) -> Tensor:
        """Return the elements of a storage, (N,)."""
        match reference.fields:
            case ("storage", Global() as kind, str(key), str(), int(count)) if kind in _STORAGES:
                dtype = _STORAGES[kind]
            case ("storage", Global() as kind, *_):
                raise FormatError(f"tensors of the type {kind.name!r:.40} are not supported")
            case _:
                raise FormatError("a storage without description")
        if key not in self._storages:
            data = self._archive.storage(key)
            if len(data) != count * dtype.itemsize:
                raise FormatError(f"storage {key!r:.40} has {len(data)} bytes, expected {count} x {dtype}")
            elements = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self._storages[key] = (dtype, elements)
        known, elements = self._storages[key]
        if known != dtype:
            raise FormatError(f"storage {key!r:.40} has two types")
        return elements


def _weight(node: object) -> int:
    """Return how many parts a node itself counts for; a long string counts as several."""
    return 1 + (len(node) // 32 if isinstance(node, (str, bytes)) else 0)


def _children(node: object) -> list[object]:
    """Return the parts of a node that become data."""
    if isinstance(node, Call):
        return _call_children(node)
    if isinstance(node, dict):
        return list(node.values())
    if isinstance(node, (list, tuple)) and not isinstance(node, (Global, StorageReference)):
        return list(node)
    return []


def _call_children(node: Call) -> list[object]:
    if node.function == _TENSOR:
        return []
    if node.function in (_PARAMETER, _SIZE):
        return list(node.args[:1])
    if node.function in _DICTS:
        return [*node.args[-1:], *node.mapping.values()] if _takes_items(node) else list(node.mapping.values())
    config = node.state.get("_config") if isinstance(node.state, dict) else None
    return [config] if isinstance(config, (dict, Call)) else []


def _takes_items(node: Call) -> bool:
    """Whether a dict was made from its argument: `OrderedDict([(k, v), ...])`, `Counter({k: n})`."""
    return bool(node.args) and isinstance(node.args[-1], (dict, list))


def _dict(node: Call, parts: list[object]) -> dict[object, object]:
    first: dict[object, object] = {}
    if _takes_items(node):
        items, *parts = parts
        pairs = list(items.items()) if isinstance(items, dict) else items
        assert isinstance(pairs, list), "see _takes_items"
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], (str, int, float)):
                raise FormatError("a dict made of something that is not pairs of key and value")
            first[pair[0]] = pair[1]
    return {**first, **dict(zip(node.mapping, parts, strict=True))}
