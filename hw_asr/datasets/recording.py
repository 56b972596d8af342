"""What a decoder makes of a file: samples, or the reason why there are none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError

Samples = NDArray[np.float32]


class AudioError(UserError):
    """A recording cannot be decoded; the message begins with its path."""


class Recording(NamedTuple):
    """What a decoder made of a file: `samples` (T,) at `sample_rate`, and the length its header declares."""

    samples: Samples
    sample_rate: int
    declared_seconds: float | None
