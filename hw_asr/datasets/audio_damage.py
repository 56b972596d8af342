"""Whether a recording that FFmpeg decodes is damaged, and whether its end is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import av
from av import AudioFrame
from av.container import InputContainer

from hw_asr.datasets.audio_structure import INAUDIBLE_SECONDS, cut_off, end_of_id3, is_short, some_missing
from hw_asr.datasets.recording import Damage

MAX_EMPTY_PACKETS = 10_000
"""A demuxer that returns more packets than the file has bytes, plus these, does not terminate."""

MAX_UNREAD_BYTES, MIN_LOST_SECONDS = 1024, 0.1
"""Where a demuxer skips more between two packets, with at least this gap in the time stamps, the file is damaged."""

_FILLER = b"\xff"
"""Written behind MP3s by some recorders, as erased memory reads."""
_TAGS = (b"ID3", b"TAG", b"APE")
"""How tags begin; concatenated files have them in the middle."""
_MP3_KBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
"""Bit rates of Layer III by MPEG version (ISO 11172-3, 2.4.2.3, and ISO 13818-3, 2.4.2.3)."""
_MP3_RATES = (44100, 48000, 32000, 0)


class Verdict(NamedTuple):
    """What is wrong with a track."""

    warning: str | None = None
    damage: Damage = Damage.NONE


class PacketReader:
    """Reads and decodes the packets of a track, past damaged ones, and records what was wrong."""

    def __init__(self, container: InputContainer, stream: Any, file: BinaryIO) -> None:
        self._container, self._stream = container, stream
        self._max_packets = os.fstat(file.fileno()).st_size + MAX_EMPTY_PACKETS
        self._reads_all_tracks = "matroska" in container.format.name or container.format.name == "flv"
        self._declares_bytes = container.format.name in ("caf", "w64", "wav")  # `examine` finds what is missing there
        self._num_packets = self._num_bad = self._num_bad_at_end = 0
        self._first_byte = -1
        self._is_incomplete = False
        self._lost_seconds, self._last_time = 0.0, 0.0
        self._unread, self._last_byte = 0, 0
        self._error = ""
        self.end = 0.0
        """Seconds, on the container's clock, up to the end of what was read: of any track in Matroska files."""
        self.last_packet = 0, 0
        """Where the last packet begins and ends in the file, in bytes."""

    def packets(self) -> Iterator[Any]:
        """Yield the track's packets up to the end of the file, or to where it cannot be read any further."""
        packets = self._container.demux() if self._reads_all_tracks else self._container.demux(self._stream)
        for _ in range(self._max_packets):
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self._error = str(getattr(error, "strerror", None) or error)
                return
            except IndexError:  # PyAV, at the end of a file in which further tracks appeared on the way
                return
            if packet is None:
                return
            if self._reads_all_tracks:
                self._check_order(packet)
            if packet.pts is not None:
                self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == self._stream.index:
                if packet.size and packet.pos is not None:
                    self.last_packet = packet.pos, packet.pos + packet.size
                yield packet
        self._error = "the demuxer does not reach the end"

    def frames(self) -> Iterator[AudioFrame]:
        """Yield the decoded frames; packets that cannot be decoded are skipped and counted."""
        for packet in self.packets():
            self._num_packets += bool(packet.size)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._add_bad(packet)
                continue
            if packet.is_corrupt and not self._declares_bytes:
                self._add_bad(packet)
            elif frames:
                self._num_bad += self._num_bad_at_end
                self._num_bad_at_end, self._is_incomplete = 0, False
                self._first_byte = memoryview(packet)[0] if packet.size else self._first_byte
            yield from frames

    def _check_order(self, packet: Any) -> None:
        """Record what the demuxer skipped before a packet, of any track: packets follow each other in the file."""
        is_used = packet.stream.index == self._stream.index
        if packet.size and packet.pos is not None:
            if self._last_byte:
                self._unread = max(self._unread, packet.pos - self._last_byte)
            self._last_byte = packet.pos + packet.size
            self._is_incomplete = self._is_incomplete or (packet.is_corrupt and not is_used)
        if is_used and packet.pts is not None:
            gap = float(packet.pts * packet.time_base) - self._last_time
            if self._unread > MAX_UNREAD_BYTES and gap > MIN_LOST_SECONDS:
                self._lost_seconds += gap
            self._last_time += gap + float((packet.duration or 0) * packet.time_base)
            self._unread = 0

    def _add_bad(self, packet: Any) -> None:
        """Count a packet unless it is a tag or filler; at the end of a file, it must also begin like a frame."""
        content = bytes(memoryview(packet))
        if content[:3] in _TAGS or not content.strip(_FILLER):
            return
        self._num_bad_at_end += 1
        starts_like_a_frame = packet.size > 0 and memoryview(packet)[0] == self._first_byte
        self._is_incomplete = self._is_incomplete or packet.is_corrupt or starts_like_a_frame

    def forget(self) -> None:
        """Reset the counts: after seeking, decoders lack the preceding packets."""
        self._num_packets = self._num_bad = self._num_bad_at_end = 0
        self._lost_seconds = 0.0

    def verdict(self, seconds: float, declared: float | None, decoded: float | None = None) -> Verdict:
        """Return what is wrong with a track of `seconds` in all.

        `declared` is its length according to the file, if known. `decoded` is the length of what could be decoded,
        given only where less than `declared` means damage.
        """
        if self._error:
            return Verdict(f"cut off after {seconds:.1f} s: {self._error}", Damage.CERTAIN)
        if declared is not None and is_short(seconds, declared):
            return Verdict(cut_off(seconds, declared), Damage.CERTAIN)
        if self._is_incomplete:
            return Verdict(f"cut off after {seconds:.1f} s: its last packet is incomplete", Damage.CERTAIN)
        missing = 0.0 if declared is None or decoded is None else declared - decoded
        if not self._num_bad and missing > INAUDIBLE_SECONDS:
            return Verdict(some_missing(missing), Damage.POSSIBLE)
        return self.verdict_on_packets()

    def verdict_on_packets(self) -> Verdict:
        """Return what is wrong with the packets read so far, wherever they end."""
        if self._lost_seconds:
            return Verdict(f"{self._lost_seconds:.1f} s of it are missing: the file is damaged", Damage.POSSIBLE)
        if self._num_bad:
            return Verdict(f"{self._num_bad} of its {self._num_packets} packets are damaged", Damage.POSSIBLE)
        return Verdict()


def mp3_verdict(file: BinaryIO, last_packet: tuple[int, int], seconds: float) -> Verdict:
    """Judge an MP3 file by its Xing or Info tag, where it has one, and by whether its last frame is whole.

    `last_packet` is where that frame begins and ends in the file. Tags are often wrong, so one alone proves nothing.
    """
    start, end = last_packet
    file.seek(start)
    last = _Mp3Header.parse(file.read(4))
    is_incomplete = last is not None and end - start < last.num_bytes
    declared = mp3_tag_seconds(file)
    if declared is not None and is_short(seconds, declared):
        return Verdict(cut_off(seconds, declared), Damage.CERTAIN if is_incomplete else Damage.POSSIBLE)
    if is_incomplete and declared is None:
        return Verdict(f"cut off after {seconds:.1f} s: its last frame is incomplete", Damage.CERTAIN)
    return Verdict()


class _Mp3Header(NamedTuple):
    """The header of a Layer III frame."""

    sample_rate: int
    num_samples: int
    num_bytes: int

    @classmethod
    def parse(cls, header: bytes) -> _Mp3Header | None:
        """Parse four bytes; return None if they are not such a header."""
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
            return None
        version = {3: 1, 2: 2, 0: 4}.get(header[1] >> 3 & 3, 0)  # 4: MPEG 2.5, whose rates are a quarter of version 1's
        if not version or not _MP3_RATES[header[2] >> 2 & 3]:
            return None
        rate = _MP3_RATES[header[2] >> 2 & 3] // version
        num_samples = 1152 if version == 1 else 576
        bits_per_second = 1000 * _MP3_KBITS[min(version, 2)][header[2] >> 4]
        return cls(rate, num_samples, num_samples // 8 * bits_per_second // rate + (header[2] >> 1 & 1))


def mp3_tag_seconds(file: BinaryIO) -> float | None:
    """Return the length according to the Xing or Info tag in the first frame; None without one."""
    file.seek(0)
    file.seek(end_of_id3(file.read(10)))
    frame = file.read(256)
    header, tag = (
        _Mp3Header.parse(frame[:4]),
        re.search(rb"(?:Xing|Info)...[\1\3\5\7\11\13\15\17](....)", frame, re.DOTALL),
    )
    if header is None or tag is None:
        return None
    return int.from_bytes(tag[1], "big") * header.num_samples / header.sample_rate
