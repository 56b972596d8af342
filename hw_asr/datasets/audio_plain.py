"""Decoding through libsndfile: what it reads whole, faster than FFmpeg, and with exact seeking."""

from __future__ import annotations

import os
from typing import BinaryIO

import soundfile

from hw_asr.datasets.audio_mono import MonoSignal, check_format
from hw_asr.datasets.recording import Decoded, Target

BLOCK_FRAMES = 1 << 18
MAX_FRAMES_PER_BYTE = 8192
"""Above what any codec reaches (digital silence in FLAC); a header that claims more lies."""


def decode_plain(file: BinaryIO, target: Target) -> Decoded | None:
    """Decode what libsndfile knows; None when it does not give exactly as much as the header declares.

    It is given a descriptor, so that it cannot go by the extension. Raises DecodingError.
    """
    file.seek(0)
    signal = MonoSignal(target)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            remaining = sound.frames
            if target.piece is not None and remaining > 0:
                start = min(round(target.piece.start * sound.samplerate), remaining)
                sound.seek(start)
                signal.position, remaining = start / sound.samplerate, remaining - start
            while remaining > 0 and not signal.is_complete:  # in blocks: a header may claim more than there is memory
                block = sound.read(min(BLOCK_FRAMES, remaining), dtype="float32", always_2d=True)
                if len(block) == 0:
                    return None
                signal.append(block, sound.samplerate)
                remaining -= len(block)
            return Decoded(signal.finish(), signal.opposed_channel) if sound.frames > 0 else None
    except (soundfile.LibsndfileError, RuntimeError):
        return None


def header_duration(file: BinaryIO) -> float | None:
    """Return the seconds that the header declares, None when it declares none or more than there can be.

    Raises DecodingError.
    """
    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            check_format(sound.samplerate, sound.channels)
            is_plausible = 0 < sound.frames <= MAX_FRAMES_PER_BYTE * os.fstat(file.fileno()).st_size
            return sound.frames / sound.samplerate if is_plausible else None
    except (soundfile.LibsndfileError, RuntimeError):
        return None
