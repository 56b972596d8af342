"""What reading a recording gives: samples and what is wrong with them, or an error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError

Samples = NDArray[np.float32]

MAX_AUDIO_HOURS = 12.0
"""Default limit on the length of one recording: at 16 kHz its samples take 2.8 GB."""


class AudioError(UserError):
    """A recording cannot be decoded; the message begins with its path."""


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, in seconds on its clock; `seconds` None: up to the end."""

    start: float
    seconds: float | None = None


class Damage(IntEnum):
    """How sure it is that a part of a recording is missing."""

    NONE = 0
    POSSIBLE = 1
    """Some data are unreadable, or less was decoded than an estimate promises."""
    CERTAIN = 2
    """The file breaks off: it ends before the data its own structure declares."""


@dataclass(frozen=True)
class Recording:
    """A decoded recording: `samples` (T,) float32 in [-1, 1] at the rate asked for."""

    samples: Samples
    warning: str | None = None
    """What is wrong with it, in one line that names neither path nor format; None when nothing is."""
    damage: Damage = Damage.NONE
    """NONE with a warning: all could be read, but part of it is not used, such as a second audio track."""


class Decoded(NamedTuple):
    """What a decoder made of a file: `samples` (T,) at `sample_rate`, and the length its header declares."""

    samples: Samples
    sample_rate: int
    declared_seconds: float | None
