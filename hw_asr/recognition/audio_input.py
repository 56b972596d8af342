"""What can be transcribed: paths and arrays of samples, read at the model's sample rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import MAX_AUDIO_HOURS, Recording, Samples, as_floats
from hw_asr.errors import UserError

Audio = str | Path | NDArray[Any]
"""A path, or samples (N,): floats in [-1, 1] or 16-bit integers."""


class SamplesError(UserError):
    """Samples that are not a mono recording."""


def read(
    audio: Audio,
    sample_rate: int,
    own_rate: int | None,
    compact_seconds: float,
    max_audio_hours: float = MAX_AUDIO_HOURS,
) -> Recording:
    """Return a recording at `sample_rate` Hz; `own_rate` is that of samples.

    Files that are longer than `compact_seconds` give 16-bit integers, those over `max_audio_hours` are refused.

    Raises AudioError for a file that cannot be read and SamplesError for samples that are not a mono recording.
    """
    if isinstance(audio, (str, Path)):
        from hw_asr.datasets.audio import read_recording

        return read_recording(Path(audio), sample_rate, None, max_audio_hours, compact_seconds)
    samples = checked_samples(np.asarray(audio), own_rate)
    if own_rate != sample_rate:
        import soxr

        samples = soxr.resample(samples, own_rate, sample_rate, quality="HQ")
    return Recording(samples)


def are_samples(value: object) -> bool:
    """Whether a value is an array, of numbers if it is of another library: a tensor is, a series of paths is not."""
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and np.asarray(value).dtype.kind in "iuf")


def is_rate(value: object) -> bool:
    """Whether a value is a sample rate in Hz: a positive, finite number."""
    return isinstance(value, (int, float, np.number)) and 0 < float(value) < math.inf


def checked_samples(samples: NDArray[Any], sample_rate: int | None) -> Samples:
    """Return mono samples (N,), N > 0, as floats in [-1, 1]; raises SamplesError for others."""
    if sample_rate is None or not is_rate(sample_rate):
        raise SamplesError(f"sample_rate: samples need their rate in Hz, such as sample_rate=16000; got {sample_rate}")
    if samples.ndim != 1 or len(samples) == 0:
        raise SamplesError(
            f"samples: expected one channel of shape (N,), got {samples.shape}; average the channels of stereo"
        )
    if samples.dtype == np.int16:
        return as_floats(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise SamplesError(f"samples: expected floats in [-1, 1] or 16-bit integers, got {samples.dtype}")
    peak = float(np.abs(samples).max())
    if not peak <= 10:  # also true of NaN
        raise SamplesError(f"samples: expected floats in [-1, 1], got values up to {peak:.4g}")
    return np.clip(samples.astype(np.float32), -1.0, 1.0)
