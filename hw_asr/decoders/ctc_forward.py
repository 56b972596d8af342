"""The exact CTC probability of a text: the forward recursion of Graves et al. (2006), on the cells that matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import Matrix
from hw_asr.runtime.kernels import Array, Scalar, kernel

NEGLIGIBLE = 1e-80
"""Cells below this part of a frame's largest are dropped; what that may have cost is bounded on the way."""
TOLERANCE = 1e-13
"""The part of the result that may have been dropped; else the recursion is done again in logarithms."""
LONG, BARELY_THERE, AGREEMENT = 20_000_000, 1e-220, 1e-9
"""From so many frames times characters on (some minutes of speech), where the recursion in logarithms takes seconds for
each text, it is enough that dropping cells below `BARELY_THERE` changes the logarithm by less than this."""
RESCALE_BELOW = 1e-60
SMALLEST = 1e-200
"""Where the last cells are smaller, numbers below the smallest double could have been part of the result."""


def log_likelihood(probs: Matrix, totals: NDArray[np.float64], log_scale: float, labels: NDArray[np.int32]) -> float:
    """Return the log-probability of `labels` (L,): probs (T, V), each frame divided by its largest value.

    totals (T,) are the sums of the frames of probs, `log_scale` is the sum of the logarithms of those values.
    """
    if len(labels) + np.count_nonzero(labels[1:] == labels[:-1]) > len(probs):
        return -math.inf
    cells = np.zeros((2, 2 * len(labels) + 6))
    log_prob, lost = forward(probs, totals, labels, cells, NEGLIGIBLE)
    if lost > TOLERANCE and len(probs) * len(labels) >= LONG:
        wider, _ = forward(probs, totals, labels, np.zeros_like(cells), BARELY_THERE)
        if math.isfinite(wider) and abs(wider - log_prob) < AGREEMENT:
            return float(log_scale + wider)
    if lost > TOLERANCE:
        from hw_asr.decoders.ctc_forward_in_logarithms import forward_in_logarithms

        log_prob = forward_in_logarithms(probs, labels, np.full_like(cells, -np.inf))
    return float(log_scale + log_prob)


def labelling_log_likelihood(log_probs: Matrix, labels: Sequence[int]) -> float:
    """Return the log-probability of a labelling of log_probs (T, V), which needs memory for two frames of it."""
    peaks = log_probs.max(axis=1) if len(log_probs) else np.zeros(0)
    probs = np.exp(log_probs - peaks[:, None])
    return log_likelihood(probs, probs.sum(axis=1), float(peaks.sum()), np.array(labels, np.int32))


@kernel("Tuple((float64, float64))(float64[:, ::1], float64[::1], int32[::1], float64[:, ::1], float64)")
def forward(probs: Array, totals: Array, labels: Array, cells: Array, negligible: float) -> tuple[Scalar, Scalar]:
    """Return the log-probability and a bound on the part of it that dropped cells may have had.

    Cells below `negligible` times a frame's largest are dropped. totals (T,) are the sums of the frames of probs
    (T, V). States 0 .. 2L alternate between the blank and the labels; cells (2, 2L + 6), zeros, hold two frames in
    turn, with two empty cells before and three after the states.
    """
    num_frames, num_labels = probs.shape[0], labels.size
    before, low, high = 1, 0, 0  # blank k and label k of the frame before are not empty for k from low to high
    cells[before, 2] = 1.0
    log_scale, dropped, scale = 0.0, 0.0, 1.0
    for frame in range(num_frames):
        now = 1 - before
        begin = num_labels - (num_frames - frame)
        begin = begin if begin > low else low
        end = high + 1 if high < num_labels else num_labels
        blank, largest = probs[frame, 0] * scale, 0.0
        for k in range(begin, end + 1):
            cell = 2 * k + 2
            ends_in_blank = (cells[before, cell] + cells[before, cell - 1]) * blank
            ends_in_label = 0.0
            if k < num_labels:
                ends_in_label = cells[before, cell + 1] + cells[before, cell]
                if k > 0 and labels[k - 1] != labels[k]:
                    ends_in_label += cells[before, cell - 1]
                ends_in_label *= probs[frame, labels[k]] * scale
            cells[now, cell], cells[now, cell + 1] = ends_in_blank, ends_in_label
            mass = ends_in_blank + ends_in_label
            largest = mass if mass > largest else largest
        if largest == 0.0:
            return -np.inf, 1.0
        dropped *= totals[frame] * scale
        while cells[now, 2 * begin + 2] + cells[now, 2 * begin + 3] < negligible * largest:
            dropped += cells[now, 2 * begin + 2] + cells[now, 2 * begin + 3]
            begin += 1
        while cells[now, 2 * end + 2] + cells[now, 2 * end + 3] < negligible * largest:
            dropped += cells[now, 2 * end + 2] + cells[now, 2 * end + 3]
            end -= 1
        cells[now, 2 * begin] = cells[now, 2 * begin + 1] = 0.0
        cells[now, 2 * end + 4] = cells[now, 2 * end + 5] = 0.0
        scale = 1.0
        if largest < RESCALE_BELOW:
            scale = 1.0 / largest
            log_scale += math.log(largest)
        before, low, high = now, begin, end
    result = cells[before, 2 * num_labels + 1] + cells[before, 2 * num_labels + 2] if high == num_labels else 0.0
    if high == num_labels - 1:
        result = cells[before, 2 * num_labels + 1]
    if result * scale < SMALLEST:
        return -np.inf, 1.0
    return log_scale + math.log(result * scale), dropped / result
