"""The data types of reading recordings: what is requested, samples with their warnings, and errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError

Samples = NDArray[np.float32]
Integers = NDArray[np.int16]
INT16_SCALE = 32768

MAX_AUDIO_HOURS = 12.0
"""Default limit on the length of one recording: at 16 kHz its samples take 2.8 GB."""


class AudioError(UserError):
    """A recording cannot be decoded; the message begins with its path."""


class DecodingError(ValueError):
    """Why a file cannot be decoded or is over the limits; the message follows the path."""


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, in seconds on its clock; `seconds` None: up to the end."""

    start: float
    seconds: float | None = None


@dataclass(frozen=True)
class Target:
    """The requested result: mono at `sample_rate` Hz, the whole recording or a piece of it."""

    sample_rate: int
    piece: Piece | None = None
    max_audio_hours: float = MAX_AUDIO_HOURS
    channel: int | None = None
    """None: the mean of all channels."""
    compact_seconds: float = float("inf")
    """Longer recordings are kept as 16-bit integers, in half of the memory."""


class Damage(IntEnum):
    """Whether part of a recording is missing."""

    NONE = 0
    POSSIBLE = 1
    """Some data are unreadable, or less was decoded than a tag declares."""
    CERTAIN = 2
    """The file is cut off: it ends before the data that its structure declares."""


def as_floats(samples: Samples | Integers) -> Samples:
    """Return samples as float32 in [-1, 1]; no copy is made of floats."""
    if samples.dtype == np.int16:
        return np.divide(samples, INT16_SCALE, dtype=np.float32)
    return samples.astype(np.float32, copy=False)


def as_integers(samples: Samples | Integers) -> Integers:
    """Return samples as 16-bit integers, clipped to full scale."""
    scaled = np.rint(as_floats(samples) * np.float32(INT16_SCALE))
    integers: Integers = np.clip(scaled, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16)
    return integers


@dataclass(frozen=True)
class Recording:
    """A decoded recording: `samples` (T,) at the rate asked for."""

    samples: Samples | Integers
    """float32 in [-1, 1]. 16-bit integers if it is longer than the `compact_seconds` of `read_recording`."""
    warning: str | None = None
    """What is wrong with it, in one line without the path; None when nothing is."""
    damage: Damage = Damage.NONE
    """NONE with a warning: all could be read, but part of it is not used, such as a second audio track."""


class Decoded(NamedTuple):
    """What a decoder made of a file."""

    samples: Samples | Integers
    """(T,), float32 that is not clipped, or 16-bit integers."""
    opposed_channel: int | None = None
    """The loudest channel, when the channels cancel out in their mean."""
    warning: str | None = None
    damage: Damage = Damage.NONE
