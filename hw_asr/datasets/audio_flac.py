"""Whether the beginning or the end of a FLAC stream is missing, by the headers of frames (RFC 9639, 8 and 9.1)."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, NamedTuple

_STREAM_INFO = 42
"""Bytes of the magic number, the header of the first metadata block, and that block, STREAMINFO."""
_TAIL = 1 << 17
"""Bytes at the end of a file that are searched for the last frame if STREAMINFO does not give the largest frame."""
_FRAME_BEGINS = re.compile(rb"\xff[\xf8\xf9]")
_MAX_HEADER = 16
_MAX_TAIL = 1 << 20
_MAX_BLOCKS = 128
"""Blocks of metadata that are skipped."""


def begins_late(file: BinaryIO, start: int) -> bool:
    """Whether the first frames of the FLAC stream at byte `start` are missing, as after a cut without encoding."""
    file.seek(start)
    block_size = int.from_bytes(file.read(_STREAM_INFO)[10:12], "big")
    position, is_last = start + 4, False
    for _ in range(_MAX_BLOCKS):
        if is_last:
            break
        file.seek(position)
        header = file.read(4)
        position += 4 + int.from_bytes(header[1:], "big")
        is_last = not header or header[0] >= 0x80
    file.seek(position)
    header = file.read(_MAX_HEADER)
    frame = _parse_frame(header, block_size) if _FRAME_BEGINS.match(header) else None
    return frame is not None and frame.start > 0


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
    file.seek(max(start, size - min(largest_frame + _MAX_HEADER if largest_frame else _TAIL, _MAX_TAIL)))
    tail = file.read()
    places = [match.start() for match in _FRAME_BEGINS.finditer(tail)]
    frames = (_parse_frame(tail[place : place + _MAX_HEADER], block_size) for place in reversed(places))
    return next((frame.end for frame in frames if frame is not None), 0) < num_samples


class _Frame(NamedTuple):
    """Where a frame begins and ends, in samples."""

    start: int
    end: int


def _parse_frame(header: bytes, block_size: int) -> _Frame | None:
    """Return the place of the frame with this header; None if it is not a header.

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
    start = number if header[1] & 1 else number * block_size
    return _Frame(start, start + size)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc
