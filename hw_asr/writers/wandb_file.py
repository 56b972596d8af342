"""Whether the file of an offline W&B run is complete: `finish` returns before the service process has written it all.

The file is in the log format of LevelDB: blocks of 32 KiB hold fragments, each with a checksum (4 bytes), a length (2),
a kind (1; full, first, middle or last) and data. A record is a protobuf message; the exit of a run follows all that was
logged.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

BLOCK_SIZE = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def wait_for_exit(path: Path, timeout: float) -> bool:
    """Wait until a run's exit is in its file; return whether that happened within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not has_exit(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def has_exit(path: Path) -> bool:
    """Whether the exit is among the records at the end of the file."""
    from wandb.proto import wandb_internal_pb2 as protocol

    messages: ModuleType = protocol  # its classes are made while it is imported
    return any(messages.Record.FromString(record).HasField("exit") for record in _last_records(path))


def _last_records(path: Path) -> Iterator[bytes]:
    """Yield the records that begin in the last two blocks and are complete."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, 2) // BLOCK_SIZE - 1) * BLOCK_SIZE
        file.seek(start)
        data = file.read()
    position = 0 if start else _HEADER.size  # the file begins with a header of the same size
    parts: list[bytes] | None = None
    while position + _HEADER.size <= len(data):
        left_in_block = BLOCK_SIZE - position % BLOCK_SIZE
        if left_in_block < _HEADER.size:
            position += left_in_block
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or position + length > len(data):
            return
        if kind in (_FULL, _FIRST):
            parts = []
        if parts is not None:  # otherwise the record began before the last two blocks
            parts.append(data[position : position + length])
            if kind in (_FULL, _LAST):
                yield b"".join(parts)
                parts = None
        position += length
