"""Arrays in a file that is mapped into memory: made once from a language model, thrown away when that changes."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.kernels import user_cache_dir

VERSION = 1
"""Of what is stored: raise it when the arrays change their meaning."""
MAGIC = b"hw_asr\x00LM"
ALIGNMENT = 64
Arrays = dict[str, NDArray[Any]]
logger = logging.getLogger(__name__)


def cache_paths(source: Path, alphabet: Sequence[str]) -> list[Path]:
    """Return where the arrays of a language model for an alphabet may lie: beside it, or in the user's cache."""
    key = hashlib.sha256(json.dumps(list(alphabet)).encode()).hexdigest()[:8]
    name = f".{source.name}.{key}.cache"
    place = hashlib.sha256(str(source.resolve().parent).encode()).hexdigest()[:16]
    return [source.with_name(name), user_cache_dir() / "language_models" / place / name]


def load_arrays(source: Path, alphabet: Sequence[str]) -> tuple[Arrays, dict[str, Any]] | None:
    """Map the arrays of an unchanged language model and return them with what was stored beside; None without them."""
    for path in cache_paths(source, alphabet):
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):
            continue
        header = _header(data)
        if header is None or header["source"] != fingerprint(source) or header["alphabet"] != list(alphabet):
            continue
        arrays = {
            name: np.frombuffer(data, np.dtype(dtype), int(np.prod(shape)), offset).reshape(shape)
            for name, (dtype, shape, offset) in header["arrays"].items()
        }
        return arrays, header["facts"]
    return None


def store_arrays(source: Path, alphabet: Sequence[str], arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write arrays for `load_arrays`, whole or not at all; where no place can be written there is a warning."""
    layout: dict[str, tuple[str, tuple[int, ...], int]] = {}
    header: dict[str, Any] = {
        "source": fingerprint(source), "alphabet": list(alphabet), "facts": dict(facts), "arrays": layout, "size": 0,
    }  # fmt: skip
    room = len(json.dumps(header)) + 160 * len(arrays) + 64
    offset = _align(len(MAGIC) + 4 + room)
    for name, array in arrays.items():
        layout[name] = (array.dtype.str, array.shape, offset)
        offset = _align(offset + array.nbytes)
    header["size"] = offset
    text = json.dumps(header).encode().ljust(room)
    for path in cache_paths(source, alphabet):
        try:
            with write_and_rename(path) as file:
                file.write(MAGIC + struct.pack("<I", room) + text)
                for name, array in arrays.items():
                    file.seek(layout[name][2])
                    file.write(np.ascontiguousarray(array).data)
                file.truncate(offset)
            return
        except OSError as error:
            logger.debug("cannot keep the language model in %s: %s", path, error)
    logger.warning("%s: no place to keep the language model in a fast form, it is read anew each time", source)


def fingerprint(source: Path) -> list[int]:
    """Return what changes when the file or this format changes."""
    status = source.stat()
    return [VERSION, status.st_size, status.st_mtime_ns]


def _header(data: mmap.mmap) -> dict[str, Any] | None:
    """Read the header of a cache file; None when it is not whole."""
    start = len(MAGIC) + 4
    if len(data) < start or data[: len(MAGIC)] != MAGIC:
        return None
    (room,) = struct.unpack("<I", data[len(MAGIC) : start])
    try:
        header: dict[str, Any] = json.loads(data[start : start + room])
    except ValueError:
        return None
    return header if header.get("size") == len(data) else None


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
