"""Damage inside a file whose format has checksums: pages of Ogg, clusters of Matroska, frames of FLAC."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO, NamedTuple

from hw_asr.datasets.audio_structure import OGG_HEADER

MAX_PARTS = 3_000_000
"""Pages or clusters that are checked; an encoder does not write more."""
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_EBML, _SEGMENT, _CLUSTER, _CRC = b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x1fC\xb6u", b"\xbf\x84"
"""Identifiers of Matroska elements (RFC 9559, 5.1); the last one is followed by its size, four bytes."""
_MARK = b"OggS"
_BLOCK = 1 << 16
MAX_READS_OF_A_BYTE, MIN_BUDGET = 4, 1 << 20
"""Marks that begin no page, each followed by the size of a large one, are checked up to so many bytes in all."""


class _Count(NamedTuple):
    """How many parts of a file are damaged or missing, and how many there should be."""

    bad: int
    total: int
    name: str


def checksum_warning(file: BinaryIO, is_refused: bool) -> str | None:
    """Return what of an Ogg, Matroska or FLAC file is damaged, in one line; None for nothing and for other formats.

    Decoders skip such parts, or decode them to noise, without an error. `is_refused`: libsndfile found an error in the
    audio, as it does where a checksum of FLAC is wrong.
    """
    file.seek(0)
    head = file.read(4)
    if head == b"fLaC" and is_refused:
        return "its checksums do not match: part of it is damaged"
    if head not in (_MARK, _EBML):
        return None
    with open(file.fileno(), "rb", buffering=_BLOCK, closefd=False) as buffered:
        count = _count_ogg_pages(buffered) if head == _MARK else _count_clusters(buffered)
    return f"{count.bad} of its {count.total} {count.name} are damaged or missing" if count.bad else None


def _count_ogg_pages(file: BinaryIO) -> _Count:
    """Count pages (RFC 3533, section 6): those with a wrong checksum are missing in the sequence of numbers."""
    bad = total = 0
    expected: dict[bytes, int] = {}  # the number of the next page of each stream, by its serial number
    position: int | None = 0
    is_last_bad = False
    budget = MAX_READS_OF_A_BYTE * os.fstat(file.fileno()).st_size + MIN_BUDGET
    for _ in range(MAX_PARTS):
        if position is None or budget < 0:
            break
        file.seek(position)
        page = _read_page(file)
        budget -= file.tell() - position
        is_last_bad = page is not None and not _is_whole(page)
        if page is None or is_last_bad:
            position = _find_mark(file, position + 1)
            continue
        serial, number = page[14:18], int.from_bytes(page[18:22], "little")
        is_first = page[5] & 2
        missing = 0 if is_first else max(0, number - expected.get(serial, number))
        expected[serial] = number + 1
        bad, total = bad + missing, total + missing + 1
        position += len(page)
    return _Count(bad + is_last_bad, total + is_last_bad, "Ogg pages")


def _read_page(file: BinaryIO) -> bytes | None:
    """Return the page at the position of a file; None at the end of the file or if the page is cut off."""
    header = file.read(OGG_HEADER)
    if len(header) < OGG_HEADER or header[:4] != _MARK:
        return None
    table = file.read(header[-1])
    body = file.read(sum(table))
    return header + table + body if len(table) == header[-1] and len(body) == sum(table) else None


def _is_whole(page: bytes) -> bool:
    """Whether a page has the checksum that it declares: a CRC-32 as zlib's, but from the other end of each byte."""
    reversed_page = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED_BITS)
    crc = zlib.crc32(reversed_page, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_REVERSED_BITS) == page[25:21:-1]


def _find_mark(file: BinaryIO, position: int) -> int | None:
    """Return where the next page may begin, from a position on; None at the end."""
    file.seek(position)
    before = b""
    while block := file.read(_BLOCK):
        data = before + block
        if (index := data.find(_MARK)) >= 0:
            return position - len(before) + index
        position += len(block)
        before = data[-3:]
    return None


def _count_clusters(file: BinaryIO) -> _Count:
    """Count the clusters of a Matroska file that have a checksum, up to the first part of unknown size."""
    bad = total = position = 0
    for _ in range(MAX_PARTS):
        file.seek(position)
        identifier = _read_number(file)
        size = _read_number(file)
        start = file.tell()
        if identifier is None or size is None:
            break
        if identifier == _SEGMENT:
            position = start
            continue
        if set(size[1:]) <= {0xFF} and size[0] & (size[0] + 1) == 0:  # unknown size
            break
        num_bytes = int.from_bytes(size, "big") ^ 1 << 7 * len(size)
        position = start + num_bytes
        head = file.read(6)
        if identifier == _CLUSTER and head[:2] == _CRC:
            is_whole = _crc32(file, num_bytes - 6)
            if is_whole is None:  # the end of the file is missing
                break
            bad, total = bad + (is_whole != int.from_bytes(head[2:], "little")), total + 1
    return _Count(bad, total, "Matroska clusters")


def _read_number(file: BinaryIO) -> bytes | None:
    """Return the bytes of an EBML number, 1 to 8 with the length in the first one; None at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    rest = 8 - first[0].bit_length()
    number = first + file.read(rest)
    return number if len(number) == 1 + rest else None


def _crc32(file: BinaryIO, size: int) -> int | None:
    """Return the CRC-32 of the next `size` bytes; None if the file ends before them."""
    crc = 0
    while size > 0:
        block = file.read(min(size, _BLOCK))
        if not block:
            return None
        crc, size = zlib.crc32(block, crc), size - len(block)
    return crc
