"""The class probabilities of utterances in the form that the kernels take."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import Matrix, check_frames, valid_peaks
from hw_asr.runtime.kernels import Float64Matrix, Float64Vector, Int64Vector, inner_kernel


class Frames(NamedTuple):
    """The class probabilities of one utterance of T frames."""

    probs: Float64Matrix
    """(T, V), divided by the largest of each frame."""
    peaks: Float64Vector
    """(T,) the natural logarithms of what they were divided by."""
    totals: Float64Vector
    """(T,) the sums of the frames of `probs`."""
    num_frames: int
    """T."""


class GroupFrames(NamedTuple):
    """The same for a group of S utterances with N frames together, one after the other."""

    probs: Float64Matrix
    """(N, V)."""
    peaks: Float64Vector
    """(N,)."""
    totals: Float64Vector
    """(N,)."""
    bounds: Int64Vector
    """(S + 1,) where the frames of each utterance begin, and where the last one's end."""


@inner_kernel
def frames_of(group: GroupFrames, utterance: int) -> Frames:
    """Return the frames of one utterance of a group."""
    begin, end = group.bounds[utterance], group.bounds[utterance + 1]
    return Frames(group.probs[begin:end], group.peaks[begin:end], group.totals[begin:end], end - begin)


def group_frames(log_probs: NDArray[Any], lengths: Int64Vector, group: Int64Vector) -> GroupFrames:
    """Prepare the utterances `group` (S,) of log-probabilities (B, T, V), of which row b has lengths[b] frames.

    Raises DecodingError for frames that are not probability distributions.
    """
    bounds = np.concatenate([[0], np.cumsum(lengths[group])])
    rows = [log_probs[index, : lengths[index]] for index in group.tolist()]
    values = np.concatenate(rows) if rows else np.zeros((0, log_probs.shape[2]))
    # NumPy takes the maximum along a short last axis three times as slowly, and a product is faster than a sum.
    peaks = np.ascontiguousarray(values.T).max(axis=0).astype(np.float64)
    valid = valid_peaks(peaks)
    if not valid.all():
        utterance = int(np.searchsorted(bounds, np.flatnonzero(~valid)[0], side="right")) - 1
        check_frames(int(group[utterance]), peaks[bounds[utterance] : bounds[utterance + 1]])
    probs = np.subtract(values, peaks[:, None], order="C")
    np.exp(probs, out=probs)  # in place: fresh memory costs more than the arithmetic
    return GroupFrames(probs, peaks, probs @ np.ones(probs.shape[1]), bounds)


def one_utterance(log_probs: Matrix) -> Frames:
    """Prepare log-probabilities (T, V) of one utterance, which are not checked."""
    peaks = log_probs.max(axis=1) if len(log_probs) else np.zeros(0)
    probs = np.exp(log_probs - peaks[:, None])
    return Frames(probs, peaks, probs.sum(axis=1), len(probs))
