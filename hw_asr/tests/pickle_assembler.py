"""Pickles of any content, opcode by opcode, and the archives around them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

NONE, FALSE, EMPTY_DICT, EMPTY_LIST, EMPTY_TUPLE = b"N", b"\x89", b"}", b"]", b")"
REDUCE, BUILD, PERSISTENT = b"R", b"b", b"Q"


def text(value: str) -> bytes:
    """Return the opcode that pushes a string."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    """Return the opcode that pushes an integer."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    """Return the opcode that pushes a global."""
    return f"c{module}\n{attribute}\n".encode()


def items(*parts: bytes) -> bytes:
    """Return the opcodes that push a tuple."""
    return b"(" + b"".join(parts) + b"t"


def mapping(values: Mapping[str, bytes]) -> bytes:
    """Return the opcodes that push a dict."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """Return the opcodes that push a tensor storage."""
    return items(text("storage"), name("torch", kind), text(key), text("cpu"), integer(count)) + PERSISTENT


def tensor(made_storage: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Return the opcodes that push a tensor."""
    sizes, strides = items(*map(integer, size)), items(*map(integer, stride))
    hooks = name("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
    arguments = items(made_storage, integer(offset), sizes, strides, FALSE, hooks)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + REDUCE


def write(
    path: Path, body: bytes, storages: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> None:
    """Write a checkpoint whose pickle is `body`, between PROTO and STOP."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + body + b".")
        archive.writestr("a/byteorder", "little")
        for key, data in (storages or {}).items():
            archive.writestr(f"a/data/{key}", data)
