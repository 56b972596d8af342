"""Whether the end of a FLAC file is missing, by the header of its last frame (RFC 9639, 8.2 and 9.1)."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

_STREAM_INFO = 42
"""Bytes of the magic number, the header of the first metadata block, and that block, STREAMINFO."""
_TAIL = 1 << 17
"""Bytes at the end of a file that are searched for the last frame if STREAMINFO does not give the largest frame."""
_FRAME_BEGINS = re.compile(rb"\xff[\xf8\xf9]")
_MAX_HEADER = 16


def ends_early(file: BinaryIO, start: int) -> bool:
    """Whether a file, whose FLAC stream begins at byte `start`, ends before the declared number of samples.

    False for other formats, and for a stream that does not declare its length.
    """
    file.seek(start)
    head = file.read(_STREAM_INFO)
    if len(head) < _STREAM_INFO or head[:4] != b"fLaC":
        return False
    block_size, largest_frame = int.from_bytes(head[10:12], "big"), int.from_bytes(head[15:18], "big")
    num_samples = int.from_bytes(head[18:26], "big") & (1 << 36) - 1
    if not num_samples:
        return False
    size = os.fstat(file.fileno()).st_size
    file.seek(max(start, size - (largest_frame + _MAX_HEADER if largest_frame else _TAIL)))
    tail = file.read()
    ends = [_end_of_frame(tail[match.start() :][:_MAX_HEADER], block_size) for match in _FRAME_BEGINS.finditer(tail)]
    last = next((end for end in reversed(ends) if end is not None), 0)
    return last < num_samples


def _end_of_frame(header: bytes, block_size: int) -> int | None:
    """Return the number of samples up to the end of the frame with this header; None if it is not a header.

    `block_size` is that of all frames but the last, in a stream whose frames are numbered.
    """
    if len(header) < _MAX_HEADER:
        header = header.ljust(_MAX_HEADER, b"\0")
    num_ones = 8 - (header[4] ^ 0xFF).bit_length()  # of a number coded as in UTF-8
    num_bytes = max(1, num_ones)
    if num_ones == 1 or num_bytes > 7:
        return None
    number = header[4] & (0x7F >> num_ones)
    for byte in header[5 : 4 + num_bytes]:
        number = number << 6 | byte & 0x3F
    size_code, rate_code, position = header[2] >> 4, header[2] & 15, 4 + num_bytes
    num_size_bytes, num_rate_bytes = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    size = int.from_bytes(header[position : position + num_size_bytes], "big") + 1
    if size_code not in (0, 6, 7):
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    position += num_size_bytes + num_rate_bytes
    if size_code == 0 or rate_code == 15 or header[position] != _crc8(header[:position]):
        return None
    return number + size if header[1] & 1 else number * block_size + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc
