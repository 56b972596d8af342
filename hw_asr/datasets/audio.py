"""Recordings of any format to mono samples at one rate, and how long they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hw_asr.datasets.audio_checksums import checksum_warning
from hw_asr.datasets.audio_file import open_recording
from hw_asr.datasets.audio_flac import ends_early
from hw_asr.datasets.audio_mono import check_amplitude
from hw_asr.datasets.audio_plain import DamagedError, decode_plain, header_duration
from hw_asr.datasets.audio_structure import Structure, examine, is_short
from hw_asr.datasets.recording import (
    MAX_AUDIO_HOURS,
    AudioError,
    Damage,
    Decoded,
    DecodingError,
    Piece,
    Recording,
    Samples,
    Target,
    as_floats,
)

EXTENSIONS = frozenset(
    f".{name}"
    for names in (
        "3g2 3ga 3gp 3gpp aac ac3 aif aifc aiff amr ape asf au avi awb caf dsf dts eac3 f4a f4v flac flv",
        "m2ts m4a m4b m4r m4v mka mkv mov mp2 mp3 mp4 mpc mpeg mpg mts mxf nist oga ogg ogv ogx oma opus",
        "qcp qt ra rf64 rm rmvb shn snd spx sph tak ts tta voc vob w64 wav wave weba webm wma wmv wv xwma",
    )
    for name in names.split()
)
"""Extensions that a folder is searched for; decoding depends on the content only."""

_RATE_TO_MEASURE = 8000
_MAX_STRUCTURES = 10_000
_structures: dict[tuple[int, int, int, int], Structure] = {}
"""Of recordings of which pieces were read, by device, inode, size and time of modification."""


def read_recording(
    path: Path,
    sample_rate: int,
    piece: Piece | None = None,
    max_audio_hours: float = MAX_AUDIO_HOURS,
    compact_seconds: float = float("inf"),
) -> Recording:
    """Decode a recording, or a piece of it, to mono at `sample_rate` Hz, as far as it goes.

    Channels are averaged, or the loudest one is taken where they cancel out; resampling is soxr's HQ; what overshoots
    full scale is clipped; gaps in the time stamps are silent. The format is detected by content.
    A recording over `compact_seconds` is returned as 16-bit integers, in half of the memory.
    Raises AudioError for a file that is missing, empty, over the limits, or holds no audio.
    """
    with open_recording(path) as file, _errors_of(path):
        target = Target(sample_rate, piece, max_audio_hours, compact_seconds=compact_seconds)
        decoded = _decode(file, target)
        if decoded.opposed_channel is not None:
            decoded = _decode(file, replace(target, channel=decoded.opposed_channel))
        samples, warning, damage = decoded.samples, decoded.warning, decoded.damage
        if len(samples) == 0:
            raise DecodingError("contains no audio" if piece is None else f"ends before the piece at {piece.start:g} s")
        if samples.dtype != np.int16 and check_amplitude(samples) > 1:
            np.clip(samples, -1.0, 1.0, out=samples)
        seconds = len(samples) / sample_rate
        if piece is not None and piece.seconds is not None and is_short(seconds, piece.seconds):
            warning, damage = f"ends after {seconds:.1f} s of a piece of {piece.seconds:.1f} s", Damage.CERTAIN
        return Recording(samples, warning, damage)


def read_audio(path: Path, sample_rate: int) -> Samples:
    """Decode a recording to (T,) float32 in [-1, 1] at `sample_rate` Hz; see `read_recording`.

    Raises AudioError for what that cannot read, and for a recording that is certainly incomplete.
    """
    recording = read_recording(path, sample_rate)
    if recording.damage is Damage.CERTAIN:
        raise AudioError(f"{path}: {recording.warning}")
    return as_floats(recording.samples)


def duration(path: Path) -> float:
    """Return the length of a recording in seconds: what decoding it gives, within a few tenths of a second.

    It is read from the header where that is reliable, and otherwise from the packets; a FLAC file whose last frame is
    missing is decoded. Raises AudioError for a file that is missing, empty or holds no audio.
    """
    with open_recording(path) as file, _errors_of(path):
        structure = examine(file)
        is_cut = structure.is_plain and ends_early(file, structure.starts[-1])
        if structure.is_plain and not is_cut:
            seconds = header_duration(file, structure.starts)
            if seconds is not None:
                return seconds
        from hw_asr.datasets.audio_containers import packet_duration

        seconds = 0.0 if is_cut else packet_duration(file)
        if seconds == 0:
            seconds = len(_decode(file, Target(_RATE_TO_MEASURE, None, float("inf"))).samples) / _RATE_TO_MEASURE
        if seconds == 0:
            raise DecodingError("contains no audio")
        return seconds


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into the error of this recording; it must not end the work on the others."""
    try:
        yield
    except DecodingError as error:
        raise AudioError(f"{path}: {error}") from error
    except Exception as error:
        raise AudioError(f"{path}: cannot be decoded: {type(error).__name__}: {error}") from error


def _known_structure(file: BinaryIO) -> Structure:
    """Examine a file once for all of its pieces: of FLAC and Ogg that reads all of it."""
    status = os.fstat(file.fileno())
    key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    if key not in _structures:
        if len(_structures) >= _MAX_STRUCTURES:
            _structures.clear()
        _structures[key] = examine(file)
    return _structures[key]


def _decode(file: BinaryIO, target: Target) -> Decoded:
    """Decode with libsndfile what it reads whole, with FFmpeg everything else."""
    structure = examine(file) if target.piece is None else _known_structure(file)
    decoded, is_refused = None, False
    if structure.is_plain:
        try:
            decoded = decode_plain(file, structure.starts, target)
        except DamagedError:
            is_refused = True
    if decoded is None:
        from hw_asr.datasets.audio_ffmpeg import decode_with_ffmpeg

        try:
            decoded = decode_with_ffmpeg(file, target)
        except DecodingError as error:
            raise DecodingError(f"{error}{', cut off in an Ogg page' * structure.ends_in_a_page}") from error
    if target.piece is not None:
        return decoded
    seconds = len(decoded.samples) / target.sample_rate
    warning = structure.warning(seconds)
    if warning is not None:
        return decoded._replace(warning=warning, damage=Damage.CERTAIN)
    if decoded.damage is not Damage.NONE:
        return decoded
    warning = structure.slight_warning(seconds) or checksum_warning(file, is_refused)
    if warning is not None:
        return decoded._replace(warning="; ".join(filter(None, [decoded.warning, warning])), damage=Damage.POSSIBLE)
    return decoded
