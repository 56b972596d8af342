"""Reads an exported model without trusting it, before onnxruntime sees it.

The file is walked in protobuf's wire format. Only the parts that an export consists of are accepted: no data in other
files, no functions, no subgraphs and so no loops, only operators of the standard set that exports use. What is left
computes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hw_asr.exported.errors import ExportedModelError

_LIST = """
    Add Cast Concat Conv Cos Div Equal Expand GRU GatherElements Greater Identity LayerNormalization Less Log LogSoftmax
    MatMul Max Min Mod Mul Pad Pow Range ReduceMax ReduceSum Relu Reshape ScatterElements Shape Sigmoid Sin Slice
    Softmax Split Sqrt Squeeze Sub Transpose Unsqueeze Where
"""
OPERATORS = frozenset(_LIST.split())
MAX_BYTES = 2**31 - 1
"""The limit of protobuf."""
MAX_FIELDS = 300_000
"""Of all messages together. A network of a hundred layers has some ten thousand."""
_VARINT, _BYTES, _FIXED32 = 0, 2, 5


class _Message(NamedTuple):
    """The fields of a message that are accepted, by their numbers in onnx.proto."""

    name: str
    plain: dict[int, int]
    """Numbers, strings and raw data, with their wire types."""
    messages: dict[int, str]
    """Submessages, with their names."""


_SCHEMA = {
    message.name: message
    for message in (
        _Message("model", {1: _VARINT, 2: _BYTES, 3: _BYTES}, {7: "graph", 8: "opset", 14: "entry"}),
        _Message("opset", {1: _BYTES, 2: _VARINT}, {}),
        _Message("entry", {1: _BYTES, 2: _BYTES}, {}),
        _Message("graph", {2: _BYTES}, {1: "node", 5: "tensor", 11: "value", 12: "value"}),
        _Message("node", {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES, 7: _BYTES}, {5: "attribute"}),
        _Message(
            "attribute",
            {1: _BYTES, 2: _FIXED32, 3: _VARINT, 4: _BYTES, 8: _VARINT, 20: _VARINT},
            {},
        ),
        _Message("tensor", {1: _VARINT, 2: _VARINT, 8: _BYTES, 9: _BYTES}, {}),
        _Message("value", {1: _BYTES}, {2: "type"}),
        _Message("type", {}, {1: "tensor_type"}),
        _Message("tensor_type", {1: _VARINT}, {2: "shape"}),
        _Message("shape", {}, {1: "dimension"}),
        _Message("dimension", {1: _VARINT, 2: _BYTES}, {}),
    )
}
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_PACKED = {("tensor", 1), ("attribute", 8)}
"""Repeated numbers, which may also come as one string of bytes."""


class Checked(NamedTuple):
    """A file that was read and found harmless."""

    content: bytes
    props: dict[str, str]
    """Its `metadata_props`."""


def read_checked(path: Path) -> Checked:
    """Read a file and check it; raises ExportedModelError, one line with the path."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ExportedModelError(f"{path}: too large for an exported model")
        content = path.read_bytes()
    except OSError as error:
        raise ExportedModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return Checked(content, _check(content))
    except ExportedModelError as error:
        raise ExportedModelError(f"{path}: {error}") from error


def _check(content: bytes) -> dict[str, str]:
    """Return the metadata of a model; raises ExportedModelError for anything an export does not contain."""
    props, left = dict[str, str](), MAX_FIELDS
    waiting = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        fields = list(islice(_fields(message, kind), left + 1))
        left -= len(fields)
        if left < 0:
            raise ExportedModelError(f"it has more than {MAX_FIELDS} fields, which exported models do not")
        if kind == "node":
            _check_node(fields)
        elif kind == "entry":
            texts = {number: _text(value) for number, value in fields}
            props[texts.get(1, "")] = texts.get(2, "")
        elif kind == "opset" and any(number == 1 and len(value) for number, value in fields):
            raise ExportedModelError("it uses operators outside of ONNX's standard set, which exported models do not")
        inner = _SCHEMA[kind].messages
        waiting += [(inner[number], value) for number, value in fields if number in inner]
    return props


def _check_node(fields: list[tuple[int, memoryview]]) -> None:
    operators = [_text(value) for number, value in fields if number == _NODE_OPERATOR]
    if any(number == _NODE_DOMAIN and len(value) for number, value in fields) or not OPERATORS.issuperset(operators):
        shown = ", ".join(operators)[:60]
        raise ExportedModelError(f"it uses the operator {shown!r}, which exported models do not")


def _fields(message: memoryview, kind: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each field; of numbers, the bytes are empty."""
    schema, position = _SCHEMA[kind], 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        expected = _BYTES if number in schema.messages else schema.plain.get(number)
        if (wire != expected and not (wire == _BYTES and (kind, number) in _PACKED)) or expected is None:
            raise ExportedModelError(
                f"not an exported model of hw_asr: {kind!r} has the field {number}, which exports do not have"
                + (", data in another file" if (kind, number) in (("tensor", 13), ("tensor", 14)) else "")
            )
        if wire == _VARINT:
            _, position = _varint(message, position)
            yield number, message[:0]
            continue
        size = 4  # of a fixed number
        if wire == _BYTES:
            size, position = _varint(message, position)
        if position + size > len(message):
            raise ExportedModelError("not an exported model of hw_asr, or cut off")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of up to ten bytes and the position after it."""
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ExportedModelError("not an exported model of hw_asr, or cut off")


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ExportedModelError("not an exported model of hw_asr: it has invalid text") from error
