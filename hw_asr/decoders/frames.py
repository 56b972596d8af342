"""The class probabilities of a batch in the form that the kernels take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.decoders.base import Matrix, as_array, check_frames, check_shapes, valid_peaks
from hw_asr.runtime.kernels import Float64Cube, Float64Matrix, Float64Vector, Int64Vector
from hw_asr.types import TensorOrArray


class Frames(NamedTuple):
    """The class probabilities of one utterance of T frames."""

    probs: Float64Matrix
    """(T or more, V), divided by the largest of each frame."""
    peaks: Float64Vector
    """(T or more,) the natural logarithms of what they were divided by."""
    totals: Float64Vector
    """(T or more,) the sums of the frames of `probs`."""
    num_frames: int
    """T."""


class BatchFrames(NamedTuple):
    """The same for B utterances."""

    probs: Float64Cube
    """(B, T, V)."""
    peaks: Float64Matrix
    """(B, T)."""
    totals: Float64Matrix
    """(B, T)."""
    lengths: Int64Vector
    """(B,)."""


def batch_frames(log_probs: TensorOrArray, lengths: TensorOrArray, num_classes: int) -> BatchFrames:
    """Prepare log-probabilities (B, T, V), of which row b has lengths[b] frames.

    Raises ValueError for shapes that do not fit and DecodingError for frames that are not probability distributions.
    """
    check_shapes(log_probs, lengths, num_classes)
    values, num_frames = as_array(log_probs), as_array(lengths).astype(np.int64)
    if values.shape[1] == 0:
        empty = np.zeros(values.shape[:2])
        return BatchFrames(np.zeros(values.shape), empty, empty, num_frames)
    # NumPy takes the maximum along a short last axis three times as slowly, and a product is faster than a sum.
    columns = np.ascontiguousarray(values.reshape(-1, num_classes).T)
    peaks = columns.max(axis=0).astype(np.float64).reshape(values.shape[:2])
    with np.errstate(invalid="ignore"):  # infinite frames are reported below
        probs = np.subtract(values, peaks[:, :, None], order="C")
    np.exp(probs, out=probs)  # in place: fresh memory costs more than the arithmetic
    result = BatchFrames(probs, peaks, probs @ np.ones(num_classes), num_frames)
    inside = np.arange(values.shape[1]) < num_frames[:, None]
    for index in np.flatnonzero((inside & ~valid_peaks(result.peaks)).any(axis=1)):
        check_frames(int(index), result.peaks[index, : num_frames[index]])
    return result


def one_utterance(log_probs: Matrix) -> Frames:
    """Prepare log-probabilities (T, V) of one utterance, which are not checked."""
    peaks = log_probs.max(axis=1) if len(log_probs) else np.zeros(0)
    probs = np.exp(log_probs - peaks[:, None])
    return Frames(probs, peaks, probs.sum(axis=1), len(probs))
