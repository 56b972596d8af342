"""What can be transcribed: paths and arrays of samples, read at the model's sample rate."""

from __future__ import annotations

import array
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import MAX_AUDIO_HOURS, Recording, Samples, as_floats
from hw_asr.errors import UserError

Buffer = NDArray[Any] | memoryview | array.array  # type: ignore[type-arg]
"""Samples (N,): floats in [-1, 1] or 16-bit integers. Tensors and arrays of other libraries are taken as well."""
Audio = str | os.PathLike[str] | Buffer
"""A path or samples."""


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
    if isinstance(audio, (str, os.PathLike)):
        from hw_asr.datasets.audio import read_recording

        return read_recording(Path(os.fsdecode(audio)), sample_rate, None, max_audio_hours, compact_seconds)
    samples = checked_samples(as_samples(audio), own_rate)
    if own_rate != sample_rate:
        import soxr

        samples = soxr.resample(samples, own_rate, sample_rate, quality="HQ")
    return Recording(samples)


def is_one(value: object) -> bool:
    """Whether a value stands for one recording, be it a wrong one: a tensor does, a series or an array of paths not."""
    if isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, array.array)) or hasattr(value, "read"):
        return True
    if hasattr(value, "detach"):
        return True
    if hasattr(value, "__array__"):
        values = np.asarray(value)
        return values.ndim == 0 or values.dtype.kind not in "OSTU"
    return not hasattr(value, "__iter__") and not hasattr(value, "__getitem__")


def as_samples(value: Any) -> NDArray[Any]:
    """Return an array, a tensor or a list of numbers as an array of this machine's byte order.

    Raises SamplesError for anything else.
    """
    if isinstance(value, (bytes, bytearray)) or hasattr(value, "read"):
        raise SamplesError(
            f"samples: expected an array of numbers, got {type(value).__name__}; give the path of a file, or samples: "
            "numpy.frombuffer(data, numpy.int16) of raw audio, soundfile.read(file) of a file in memory"
        )
    try:
        if hasattr(value, "detach"):  # a tensor of torch; numpy has no bfloat16
            value = value.detach().float() if value.is_floating_point() else value
            value = value.cpu()
        samples = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # such as a list of lists of several lengths
        raise SamplesError(f"samples: expected an array of numbers, got {type(value).__name__}: {error}") from error
    if samples.dtype.kind not in "biufc":
        raise SamplesError(f"samples: expected an array of numbers, got {type(value).__name__}")
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def is_rate(value: object) -> bool:
    """Whether a value is a sample rate in Hz: a positive, finite number."""
    return isinstance(value, (int, float, np.number)) and 0 < float(value) < math.inf


def checked_samples(samples: NDArray[Any], sample_rate: int | None) -> Samples:
    """Return mono samples (N,), N > 0, as floats in [-1, 1]; raises SamplesError for others."""
    if sample_rate is None or not is_rate(sample_rate):
        raise SamplesError(f"sample_rate: samples need their rate in Hz, such as 16000; got {sample_rate!r}")
    if samples.ndim != 1 or len(samples) == 0:
        advice = "; average the channels of stereo" if samples.ndim > 1 else ""
        raise SamplesError(f"samples: expected one channel of shape (N,), got {samples.shape}{advice}")
    if samples.dtype == np.int16:
        return as_floats(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise SamplesError(f"samples: expected floats in [-1, 1] or 16-bit integers, got {samples.dtype}")
    peak = float(np.abs(samples).max())
    if not peak <= 10:  # also true of NaN
        raise SamplesError(f"samples: expected floats in [-1, 1], got values up to {peak:.4g}")
    return np.clip(samples.astype(np.float32), -1.0, 1.0)
