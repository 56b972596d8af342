"""Audio that arrives in pieces: from a file, from a pipe, from a microphone."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError
from hw_asr.runtime.optional import optional_import

Pieces = Iterator[NDArray[Any]]
"""Mono samples (N,), floats in [-1, 1] or 16-bit integers."""
PIECE_SECONDS = 0.1
READ_BYTES = 1 << 16
SILENT_SECONDS = 1.0
"""A microphone that has given nothing for so long may have been unplugged."""
logger = logging.getLogger(__name__)


class SourceError(UserError):
    """Audio that cannot be read."""


class Source(NamedTuple):
    """Pieces of audio and their sample rate."""

    pieces: Pieces
    sample_rate: int
    """Hz."""


def of_recording(samples: NDArray[Any], sample_rate: int, real_time: bool) -> Source:
    """Return the pieces of a recording (N,); with `real_time`, each when it has been played."""

    def pieces() -> Pieces:
        size, begin = max(1, round(PIECE_SECONDS * sample_rate)), time.monotonic()
        for start in range(0, len(samples), size):
            if real_time:
                time.sleep(max(0.0, begin + (start + size) / sample_rate - time.monotonic()))
            yield samples[start : start + size]

    return Source(pieces(), sample_rate)


def of_pipe(pipe: BinaryIO, sample_rate: int) -> Source:
    """Return what a pipe carries, 16-bit little-endian mono samples, as soon as it is there.

    Raises SourceError for a terminal.
    """
    if pipe.isatty():
        raise SourceError(
            "standard input is a terminal, not audio; pipe raw samples into it: "
            f"ffmpeg -i FILE -f s16le -ac 1 -ar {sample_rate} - | ..."
        )

    def pieces() -> Pieces:
        rest = b""
        while data := os.read(pipe.fileno(), READ_BYTES):
            data = rest + data
            whole = len(data) // 2 * 2
            rest = data[whole:]
            yield np.frombuffer(data[:whole], "<i2").astype(np.int16)

    return Source(pieces(), sample_rate)


def of_microphone(sample_rate: int) -> Source:
    """Open the default microphone, at its own rate where it cannot record at `sample_rate` Hz.

    Raises SourceError without a microphone, MissingPackageError without sounddevice or PortAudio.
    """
    with optional_import("a microphone", "sounddevice", "microphone"):
        try:
            import sounddevice
        except OSError as error:  # its library is a package of the system on Linux
            raise ImportError(f"{error}; on Debian and Ubuntu: apt install libportaudio2") from error
    recorded: queue.SimpleQueue[NDArray[Any]] = queue.SimpleQueue()

    def record(samples: NDArray[Any], *_: object) -> None:
        recorded.put(samples[:, 0].copy())

    def opened(rate: int) -> Any:
        size = round(PIECE_SECONDS * rate)
        return sounddevice.InputStream(
            samplerate=rate, channels=1, dtype="int16", blocksize=size, latency="low", callback=record
        )

    try:
        device = sounddevice.query_devices(kind="input")
        try:
            stream = opened(sample_rate)
        except sounddevice.PortAudioError:
            sample_rate = round(float(device["default_samplerate"]))
            stream = opened(sample_rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise SourceError(f"no microphone can be opened: {error}; connect one, or give a file or -") from error

    def pieces() -> Pieces:
        with stream:
            while True:
                try:
                    yield recorded.get(timeout=SILENT_SECONDS)
                except queue.Empty:
                    if not stream.active:
                        logger.warning("the microphone has stopped; the recording ends here")
                        return

    return Source(pieces(), sample_rate)
