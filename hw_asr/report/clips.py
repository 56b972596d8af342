"""Recordings embedded in a page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tqdm import tqdm

from hw_asr.datasets.audio import read_recording
from hw_asr.datasets.recording import AudioError, Piece

SAMPLE_RATE = 16000
MAX_AS_IS = 12_000
"""Bytes per second up to which a compressed file is embedded as it is; others become mp3, about 5 kB a second."""
SMALLEST_AS_MP3, LONG_SECONDS = 2_000, 600
"""Bytes per second that no clip of speech is smaller than: a long recording that cannot fit is not converted."""
MOST_MISFITS = 10
"""Recordings that were converted and did not fit, after which no more are tried."""
_SIGNATURES = {
    b"OggS": (0, "audio/ogg"),
    b"ID3": (0, "audio/mpeg"),
    b"\xff\xfb": (0, "audio/mpeg"),
    b"ftyp": (4, "audio/mp4"),
}


class Clip:
    """A recording as a data URI."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.num_bytes = len(content)
        self.uri = f"data:{media_type};base64,{base64.b64encode(content).decode()}"


class Source(NamedTuple):
    """A recording, or a piece of it, to embed."""

    path: Path
    seconds: float | None
    """Its duration, if it is known."""
    offset: float | None
    """Where the piece starts, in seconds; None: the whole recording."""


def embed(sources: Sequence[Source], limit_mb: float) -> list[Clip | None]:
    """Return clips of the recordings, in order, as long as they fit into `limit_mb` megabytes; None for the rest.

    A recording that cannot be read has no clip either; its result says why.
    """
    clips: list[Clip | None] = []
    left, misfits = limit_mb * 1e6, 0
    for source in tqdm(sources, desc="audio for the report", leave=False, disable=None):
        seconds = source.seconds or 0.0
        too_long = seconds > LONG_SECONDS and seconds * SMALLEST_AS_MP3 > left
        clip = clip_of(source) if misfits < MOST_MISFITS and not too_long else None
        if clip is not None and clip.num_bytes > left:
            clip, misfits = None, misfits + 1
        left -= 0 if clip is None else clip.num_bytes
        clips.append(clip)
    return clips


def clip_of(source: Source) -> Clip | None:
    """Return a recording in a form that browsers play; None when it cannot be read."""
    path, seconds, offset = source
    try:
        if offset is not None:
            return Clip(_mp3(path, Piece(offset, seconds)), "audio/mpeg")
        with path.open("rb") as file:
            head = file.read(12)
            media_type = _media_type(head)
            if media_type is not None and seconds and path.stat().st_size <= MAX_AS_IS * seconds:
                return Clip(head + file.read(), media_type)
        return Clip(_mp3(path), "audio/mpeg")
    except (OSError, AudioError):
        return None


def link(path: Path, page: Path) -> str:
    """Return the URL of a recording as seen from the page."""
    absolute = path.absolute()
    try:
        relative = os.path.relpath(absolute, page.absolute().parent)
    except ValueError:  # another drive
        return absolute.as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def _media_type(head: bytes) -> str | None:
    for signature, (offset, media_type) in _SIGNATURES.items():
        if head[offset : offset + len(signature)] == signature:
            return media_type
    return None


def _mp3(path: Path, piece: Piece | None = None) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    samples = read_recording(path, SAMPLE_RATE, piece).samples
    soundfile.write(
        buffer, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE", compression_level=0.5,
    )  # fmt: skip
    return buffer.getvalue()
