"""Decoding through libsndfile, for formats that it reads completely: faster than FFmpeg, with exact seeking."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import soundfile

from hw_asr.datasets.audio_mono import MonoSignal, check_format
from hw_asr.datasets.recording import Decoded, Target

BLOCK_FRAMES = 1 << 18
MAX_FRAMES_PER_BYTE = 8192
"""More than any codec reaches (digital silence in FLAC); a header with more is wrong."""


class DamagedError(Exception):
    """libsndfile opens a file, but finds an error in its audio."""


def decode_plain(file: BinaryIO, starts: Sequence[int], target: Target) -> Decoded | None:
    """Decode the streams of a file that begin at `starts`; None when they are not exactly as long as declared.

    libsndfile is given a descriptor, so that it cannot go by the extension.
    Raises DecodingError, and DamagedError where libsndfile finds an error in the audio.
    """
    signal = MonoSignal(target)
    for stream in _streams(file, starts):
        try:
            with soundfile.SoundFile(stream, closefd=False) as sound:
                if sound.frames <= 0 or not _append(sound, signal, target):
                    return None
        except (soundfile.LibsndfileError, RuntimeError):
            return None
        if signal.is_complete:
            break
    return Decoded(signal.finish(), signal.opposed_channel)


def header_duration(file: BinaryIO, starts: Sequence[int]) -> float | None:
    """Return the seconds that the headers declare, None when they declare none or more than there can be.

    Raises DecodingError.
    """
    seconds = 0.0
    for stream in _streams(file, starts):
        try:
            with soundfile.SoundFile(stream, closefd=False) as sound:
                check_format(sound.samplerate, sound.channels)
                if not 0 < sound.frames <= MAX_FRAMES_PER_BYTE * os.fstat(file.fileno()).st_size:
                    return None
                seconds += sound.frames / sound.samplerate
        except (soundfile.LibsndfileError, RuntimeError):
            return None
    return seconds


def _streams(file: BinaryIO, starts: Sequence[int]) -> Iterator[int | io.BytesIO]:
    """Yield what soundfile opens: the descriptor of a file of one stream, or the bytes of each stream."""
    if tuple(starts) == (0,):
        file.seek(0)
        yield file.fileno()
        return
    for start, end in zip(starts, [*starts[1:], os.fstat(file.fileno()).st_size], strict=True):
        file.seek(start)
        yield io.BytesIO(file.read(end - start))


def _append(sound: soundfile.SoundFile, signal: MonoSignal, target: Target) -> bool:
    """Read a stream up to the end of the target's piece; return False when it ends before its declared end."""
    remaining = sound.frames
    if target.piece is not None:
        before = target.piece.start - signal.position
        skipped = min(max(0, round(before * sound.samplerate)), remaining)
        sound.seek(skipped)
        signal.position += skipped / sound.samplerate
        remaining -= skipped
    while remaining > 0 and not signal.is_complete:  # in blocks: a header may declare more than fits into memory
        wanted = min(BLOCK_FRAMES, remaining)
        try:
            block = sound.read(wanted, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise DamagedError(str(error)) from error
        if len(block) < wanted:  # reading on would return the samples before its end once more
            return False
        signal.append(block, sound.samplerate)
        remaining -= len(block)
    return True
