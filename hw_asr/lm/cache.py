"""A language model's arrays in a file that is mapped into memory, made once and replaced when the model changes.

The file is not trusted: `cache_checks` compares all of it with what the kernels require, since an index out of bounds
would crash the process. A file with any fault is ignored and written again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw_asr.lm.cache_checks import Arrays, Facts, InvalidCacheError, check_arrays, mapped_arrays, read_facts
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.private_files import is_trusted, private_directory, user_cache_dir

VERSION = 2
"""Version of the format: increase it when the arrays change their meaning."""
MAGIC = b"hw_asr\x00LM"
ALIGNMENT = 64
logger = logging.getLogger(__name__)


def cache_paths(source: Path, alphabet: Sequence[str]) -> list[Path]:
    """Return where the arrays of a language model for an alphabet may be: beside it, or in the user's cache.

    Places where others than the user and root can write are left out.
    """
    key = hashlib.sha256(json.dumps(list(alphabet)).encode()).hexdigest()[:8]
    name = f".{source.name}.{key}.cache"
    paths = [source.with_name(name)] if is_trusted(source.parent.resolve()) else []
    user = user_cache_dir()
    models = private_directory(user / "language_models") if user else None
    if models:
        place = hashlib.sha256(str(source.resolve().parent).encode()).hexdigest()[:16]
        paths.append(models / f"{place}{name}")
    return paths


def load_arrays(source: Path, alphabet: Sequence[str]) -> tuple[Arrays, Facts] | None:
    """Map the arrays of an unchanged language model; None when no valid cache exists."""
    for path in cache_paths(source, alphabet):
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            logger.info("%s: not used: %s", path, error)
            continue
        try:
            return _read(data, source, alphabet)
        except InvalidCacheError as error:
            logger.info("%s: not used: %s", path, error)
    return None


def _read(data: mmap.mmap, source: Path, alphabet: Sequence[str]) -> tuple[Arrays, Facts]:
    start = len(MAGIC) + 4
    if len(data) < start or data[: len(MAGIC)] != MAGIC:
        raise InvalidCacheError("not a cache of a language model")
    (room,) = struct.unpack("<I", data[len(MAGIC) : start])
    try:
        header = json.loads(data[start : start + room])
    except (ValueError, RecursionError) as error:
        raise InvalidCacheError(f"damaged header ({error})") from error
    if not isinstance(header, dict) or header.get("size") != len(data):
        raise InvalidCacheError("truncated")
    if header.get("source") != fingerprint(source) or header.get("alphabet") != list(alphabet):
        raise InvalidCacheError("made from another version of the language model")
    arrays = mapped_arrays(data, header.get("arrays"))
    facts = read_facts(header.get("facts"))
    check_arrays(arrays, len(alphabet))
    return arrays, facts


def store_arrays(source: Path, alphabet: Sequence[str], arrays: Arrays, facts: Facts) -> None:
    """Write arrays for `load_arrays`, whole or not at all; a warning where no place is writable."""
    layout: dict[str, tuple[str, tuple[int, ...], int]] = {}
    header: dict[str, object] = {"source": fingerprint(source), "alphabet": list(alphabet), "facts": facts._asdict()}
    header |= {"arrays": layout, "size": 0}
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
            logger.debug("cannot write %s: %s", path, error)
    logger.warning("%s: cannot write the cache; the file is parsed again every run", source)


def fingerprint(source: Path) -> list[int]:
    """Return what changes when the file or this format changes."""
    status = source.stat()
    return [VERSION, status.st_size, status.st_mtime_ns]


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
