"""The structure of a file: whether libsndfile reads all of it, and whether its end is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, Literal, NamedTuple

from hw_asr.datasets.audio_flac import begins_late

_BLOCK = 1 << 20
MAX_CHUNKS = 1000
"""Chunks of a file that are examined; the audio usually comes after one or two others."""
MAX_STREAMS = 1000
"""Concatenated FLAC streams that are decoded one by one; a file with more goes to FFmpeg as it is."""
_STREAMED = 0x7FFF0000
"""Streaming writers declare sizes of 0, or of 2 GB and more, in 32 bits."""

_PCM_TAGS = frozenset([1, 3, 6, 7, 0xFFFE])
"""Integers, floats, A-law, µ-law, extensible."""

MIN_COMPLETE = 0.98
"""Share of the declared length that must be there; MPEG headers count the encoder's padding."""
SLACK_SECONDS = 0.1
INAUDIBLE_SECONDS = 0.02
"""Some formats count padding, or round; some writers declare a few bytes too many."""

OGG_HEADER = 27
"""Bytes of an Ogg page before its table of segments, whose length is the last of them (RFC 3533, section 6)."""
LARGEST_OGG_PAGE = OGG_HEADER + 255 + 255 * 255
_OGG_BEGINS = re.compile(rb"OggS\0[\x02\x06]")
"""The first page of a stream."""
_FLAC_BEGINS = re.compile(rb"fLaC[\0\x80]\0\0\x22")
"""The mark and the header of the first block of metadata (RFC 9639, 8.1)."""


def is_short(seconds: float, declared: float) -> bool:
    """Whether so much is missing that it is not rounding or padding."""
    return seconds < MIN_COMPLETE * declared - SLACK_SECONDS


def some_missing(seconds: float) -> str:
    """Return the warning for a recording that is slightly shorter than declared."""
    return f"{seconds:.2f} s of it could not be decoded"


def cut_off(seconds: float, declared: float) -> str:
    """Return the warning for a recording that is shorter than declared."""
    return f"cut off: its header declares {declared:.1f} s, {seconds:.1f} s could be decoded"


class Structure(NamedTuple):
    """What is known of a file before it is decoded."""

    is_plain: bool
    """A wav, FLAC or Ogg file that libsndfile reads completely."""
    declared_share: float = 1.0
    """The bytes of audio that its header declares, divided by those that are there."""
    starts: tuple[int, ...] = (0,)
    """Where the streams of a plain file begin, in bytes: behind a tag, and concatenated FLAC files have several."""
    ends_in_a_page: bool = False
    """Whether an Ogg file ends in the middle of a page."""

    def warning(self, seconds: float) -> str | None:
        """Return what is missing from a file of which `seconds` could be decoded; None when nothing is."""
        if self.ends_in_a_page:
            return f"cut off after {seconds:.1f} s: its last Ogg page is incomplete"
        declared = self.declared_share * seconds
        return cut_off(seconds, declared) if is_short(seconds, declared) else None

    def slight_warning(self, seconds: float) -> str | None:
        """Return what is missing if that is too little for `warning`; None when nothing is."""
        missing = (self.declared_share - 1) * seconds
        return some_missing(missing) if missing > INAUDIBLE_SECONDS else None


def examine(file: BinaryIO) -> Structure:
    """Return the structure of a file, as far as it is known for its format."""
    file.seek(0)
    head = file.read(64)
    if head[:4] == b"fLaC":
        starts = (0, *_occurrences(file, _FLAC_BEGINS, MAX_STREAMS))
        return Structure(len(starts) <= MAX_STREAMS and not begins_late(file, 0), starts=starts)
    if head[:4] == b"OggS":
        return Structure(not _occurrences(file, _OGG_BEGINS, 1), ends_in_a_page=_ogg_is_cut_off(file))
    begin = end_of_id3(head)
    kind = _read(file, begin, 4)
    if kind in _CHUNKED:
        return _examine_chunks(file, _CHUNKED[kind], begin)
    if head[:4] == b".snd":
        return Structure(
            False, _share(int.from_bytes(head[8:12], "big"), _size(file) - int.from_bytes(head[4:8], "big"))
        )
    return Structure(False)


def end_of_id3(head: bytes) -> int:
    """Return where an ID3v2 tag at the beginning of a file ends; 0 without one."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])  # 7 bits in each byte


class _Chunks(NamedTuple):
    """How a container of chunks is laid out."""

    first: int
    """Where the first chunk begins."""
    id_bytes: int = 4
    size_bytes: int = 4
    order: Literal["little", "big"] = "little"
    alignment: int = 2
    counts_header: bool = False
    """Whether a chunk's size includes its header."""
    audio: bytes = b"data"


_CHUNKED = {
    b"RIFF": _Chunks(12),
    b"RF64": _Chunks(12),
    b"FORM": _Chunks(12, order="big", audio=b"SSND"),
    b"caff": _Chunks(8, size_bytes=8, order="big", alignment=1),
    b"riff": _Chunks(40, id_bytes=16, size_bytes=8, alignment=8, counts_header=True),
}
"""By the first bytes; the last one is Sony's Wave64."""


def _examine_chunks(file: BinaryIO, layout: _Chunks, begin: int) -> Structure:
    end = _size(file)
    is_pcm, size_64 = False, None
    for identifier, size, start in islice(_chunks(file, layout, begin), MAX_CHUNKS):
        if identifier == b"ds64":
            size_64 = int.from_bytes(_read(file, start + 8, 8), "little")
        elif identifier == b"fmt ":
            is_pcm = _is_pcm(_read(file, start, 16))
        elif identifier == b"LIST" and _read(file, start, 4) == b"movi":  # of an AVI file
            return Structure(False, _share(size, end - start))
        elif identifier == layout.audio:
            is_wav = layout is _CHUNKED[b"RIFF"]
            declared = size_64 if size_64 is not None and size == 0xFFFFFFFF else size
            share = _share(declared, end - start, layout.size_bytes == 4 and size_64 is None)
            return Structure(is_wav and is_pcm, share, (begin,))
    return Structure(False)


def _chunks(file: BinaryIO, layout: _Chunks, begin: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's identifier (its first four bytes), the size of its content, and where that begins."""
    position, header_size = begin + layout.first, layout.id_bytes + layout.size_bytes
    end = _size(file)
    while position + header_size <= end:
        header = _read(file, position, header_size)
        size = int.from_bytes(header[layout.id_bytes :], layout.order)
        size = max(0, size - header_size) if layout.counts_header else size
        yield header[:4], size, position + header_size
        position += header_size + -(-size // layout.alignment) * layout.alignment


def _is_pcm(content: bytes) -> bool:
    """Whether the fields of a wav's format are valid: libsndfile divides by some of them."""
    tag, bits = int.from_bytes(content[:2], "little"), int.from_bytes(content[14:16], "little")
    return tag in _PCM_TAGS and bits in (8, 16, 24, 32, 64)


def _share(declared: int, present: int, may_be_streamed: bool = True) -> float:
    is_unknown = declared == 0 or (may_be_streamed and declared >= _STREAMED) or declared >= 1 << 62
    return 1.0 if present <= 0 or is_unknown else max(1.0, declared / present)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _occurrences(file: BinaryIO, mark: re.Pattern[bytes], limit: int) -> list[int]:
    """Return the first positions of a mark of up to 8 bytes, at most `limit`, after the first 4 bytes of a file.

    Encoded audio may contain it by chance.
    """
    position, before = 4, b""
    file.seek(position)
    positions: set[int] = set()  # a mark in the overlap of two blocks is seen twice
    while len(positions) < limit and (block := file.read(_BLOCK)):
        data = before + block
        matches = islice(mark.finditer(data), limit)
        positions |= {position - len(before) + match.start() for match in matches}
        position += len(block)
        before = data[-7:]
    return sorted(positions)[:limit]


def _ogg_is_cut_off(file: BinaryIO) -> bool:
    """Whether an Ogg file ends in the middle of a page; decoders skip that page silently.

    A missing end-of-stream flag proves nothing: Android's writer never sets it. Bytes after the last page, such as
    tags, are not a cut unless another page begins there.
    """
    tail = _read(file, max(0, _size(file) - LARGEST_OGG_PAGE), LARGEST_OGG_PAGE)
    ends = [_end_of_ogg_page(tail, mark.start()) for mark in re.finditer(b"OggS", tail)]
    if not ends or len(tail) in ends:  # any of them: encoded audio may contain the mark by chance
        return False
    return ends[-1] > len(tail) or b"OggS".startswith(tail[ends[-1] :])


def _end_of_ogg_page(data: bytes, start: int) -> int:
    """Return where the page at `start` ends: after the end of the data if its header is incomplete."""
    segments = start + OGG_HEADER
    table = data[segments : segments + data[segments - 1]] if segments <= len(data) else b""
    is_whole = segments <= len(data) and len(table) == data[segments - 1]
    return segments + len(table) + sum(table) if is_whole else len(data) + 1
