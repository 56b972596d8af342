"""Container formats that FFmpeg opens, what each declares, and the length of a track by its packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer

from hw_asr.datasets.audio_clock import MAX_GAP_SECONDS, Clock
from hw_asr.datasets.audio_damage import PacketReader, mp3_tag_seconds
from hw_asr.datasets.audio_file import BoundedFile
from hw_asr.datasets.recording import DecodingError

CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,ircam,loas,matroska,mlp,"
    "mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,paf,qcp,rm,shn,sox,tak,truehd,tta,voc,w64,wav,"
    "webm,wsd,wtv,wv,xwma,3gp,3g2,m4a,mj2"
)
"""Without this list FFmpeg would also open images, raw video, and playlists that refer to other files and hosts."""

MP3, MATROSKA, FLAC = frozenset(["mp3"]), frozenset(["matroska"]), frozenset(["flac"])
COUNTED = frozenset(["aiff", "ape", "au", "caf", "flac", "nistsphere", "tta", "w64", "wav", "wv"])
"""Formats whose header holds the number of samples; that of others is an estimate."""
CAF = frozenset(["caf"])
PADDED = CAF | frozenset(["aiff"])
"""Formats that count the padding of compressed audio; AIFF counts samples or packets, depending on the writer."""
_EXACT = COUNTED | frozenset(["mov", "ogg"])
"""Formats that declare a length without the padding in their packets; that of others is an estimate."""
_INDIVISIBLE = frozenset(["mov", "tta"])
"""Formats of which an incomplete packet cannot be decoded at all."""
_CLOCK_FROM_ZERO = frozenset(["matroska", "mov"])
CLOCKED = _CLOCK_FROM_ZERO | frozenset(["asf", "flac", "flv", "mpeg", "mpegts", "mxf", "nut", "ogg", "rm", "wtv"])
"""Formats with real time stamps; elsewhere FFmpeg derives them from sizes or counts."""
_WAV = frozenset(["wav", "w64"])
_SEEKABLE_IN_WAV = ("pcm_", "mp2", "mp3", "ac3", "gsm_ms", "g726")
"""How the names of codecs begin whose positions are exact; for others they are guessed from the header's byte rate."""
_SEEKABLE = _CLOCK_FROM_ZERO | COUNTED | frozenset(["aac", "amr", "mp3"])
"""Formats with reliable time stamps after seeking."""

_UNTIMED = frozenset(["aac", "loas"])
"""Formats in which FFmpeg assumes that all packets have the rate of the first."""

_ENDLESS = "cannot be decoded: FFmpeg reads it over and over"
PADDING_SECONDS = 0.2


@contextmanager
def open_container(file: BinaryIO) -> Iterator[InputContainer]:
    """Open a file with FFmpeg; errors of FFmpeg in the block become DecodingErrors."""
    av.logging.set_level(None)  # FFmpeg's messages would go to the terminal; its errors are raised all the same
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    bounded = BoundedFile(file)
    try:
        with av.open(bounded, "r", options=options, metadata_errors="replace") as container:
            yield container
        if bounded.is_exhausted:
            raise DecodingError(_ENDLESS)
    except (av.FFmpegError, OSError) as error:
        reason = f"cannot be decoded: {getattr(error, 'strerror', None) or error}"
        raise DecodingError(_ENDLESS if bounded.is_exhausted else reason) from error


def has_format(container: InputContainer, names: frozenset[str]) -> bool:
    """Whether a container has one of these formats; FFmpeg has several names for some."""
    return not names.isdisjoint(container.format.name.split(","))


def can_seek(container: InputContainer, codec: str) -> bool:
    """Whether the time stamps of a track are exact after seeking."""
    return has_format(container, _SEEKABLE) and (not has_format(container, _WAV) or codec.startswith(_SEEKABLE_IN_WAV))


def time_origin(container: InputContainer) -> float | None:
    """Return the time stamp of the recording's beginning, None when the first one is."""
    start = None if container.start_time is None else float(container.start_time / av.time_base)
    if has_format(container, _CLOCK_FROM_ZERO) and start is not None and start <= MAX_GAP_SECONDS:
        return 0.0
    return start


def can_open(file: BinaryIO) -> bool:
    """Whether FFmpeg recognises the content of a file as audio or video; its tracks may be damaged or empty."""
    try:
        with open_container(file):
            return True
    except DecodingError:
        return False


def packet_duration(file: BinaryIO) -> float:
    """Return the length of the best audio track in seconds, from its packets, without decoding them.

    Returns 0 when they have no durations. Raises DecodingError.
    """
    with open_container(file) as container:
        stream = container.streams.best("audio")
        if stream is None:
            raise DecodingError("has no audio track")
        if has_format(container, _UNTIMED):
            return 0.0
        reader, clock = PacketReader(container, stream, file), Clock(time_origin(container))
        is_clocked = has_format(container, CLOCKED)
        drops_incomplete = has_format(container, _INDIVISIBLE)
        for packet in reader.packets():
            if packet.duration and not (packet.is_corrupt and drops_incomplete):
                time = float(packet.pts * packet.time_base) if is_clocked and packet.pts is not None else None
                clock.gap_before(time, float(packet.duration * packet.time_base))
        is_exact = has_format(container, _EXACT) or (has_format(container, MP3) and mp3_tag_seconds(file) is not None)
        unit = stream.time_base if is_exact else None
        declared = float(stream.duration * unit) if stream.duration and unit else 0.0
        is_padded = 0 < clock.position - declared < PADDING_SECONDS  # what decoders drop
        return declared if is_padded else clock.position
