"""The exact CTC probability of a text: the forward recursion of Graves et al. (2006), on the cells that matter."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import Matrix
from hw_asr.jit import Array, Scalar, kernel

NEGLIGIBLE = 1e-80
"""Cells below this part of a frame's largest are dropped; what that may have cost is bounded on the way."""
TOLERANCE = 1e-13
"""The part of the result that may have been dropped; else the recursion is done again in logarithms."""
SMALLEST = 1e-200
"""Where the last cells are smaller, numbers below the smallest double could have been part of the result."""


def log_likelihood(probs: Matrix, log_scale: float, labels: NDArray[np.int32]) -> float:
    """Return the log-probability of `labels` (L,): probs (T, V), each frame divided by its largest value.

    `log_scale` is the sum of the logarithms of those values.
    """
    if len(labels) + np.count_nonzero(labels[1:] == labels[:-1]) > len(probs):
        return -math.inf
    cells = np.zeros((2, 2 * len(labels) + 5))
    log_prob, lost = forward(probs, labels, cells)
    if lost > TOLERANCE:
        log_prob = forward_in_logarithms(probs, labels, np.full_like(cells, -np.inf))
    return float(log_scale + log_prob)


@kernel("Tuple((float64, float64))(float64[:, ::1], int32[::1], float64[:, ::1])")
def forward(probs: Array, labels: Array, cells: Array) -> tuple[Scalar, Scalar]:
    """Return the log-probability and a bound on the part of it that dropped cells may have had.

    States 0 .. 2L alternate between the blank and the labels; cells (2, 2L + 5), zeros, hold two frames in turn, with
    two empty cells on either side.
    """
    num_frames, num_states = probs.shape[0], 2 * labels.size + 1
    before = 1
    cells[before, 2] = 1.0
    log_prob, dropped, low, high = 0.0, 0.0, 0, 0  # the states from low to high of the frame before are not empty
    for frame in range(num_frames):
        now = 1 - before
        begin, end = num_states - 2 * (num_frames - frame), high + 2
        if begin < low:
            begin = low
        if end >= num_states:
            end = num_states - 1
        largest, total = 0.0, 0.0
        for state in range(begin, end + 1):
            mass, label = cells[before, state + 2] + cells[before, state + 1], np.int32(0)
            if state & 1:
                label = labels[state >> 1]
                if state > 1 and labels[(state >> 1) - 1] != label:
                    mass += cells[before, state]
            mass *= probs[frame, label]
            cells[now, state + 2] = mass
            if mass > largest:
                largest = mass
        if largest == 0.0:
            return -np.inf, 1.0
        for symbol in range(probs.shape[1]):
            total += probs[frame, symbol]
        dropped *= total
        while cells[now, begin + 2] < NEGLIGIBLE * largest:
            dropped += cells[now, begin + 2]
            begin += 1
        while cells[now, end + 2] < NEGLIGIBLE * largest:
            dropped += cells[now, end + 2]
            end -= 1
        dropped /= largest
        log_prob += math.log(largest)
        for state in range(begin, end + 1):
            cells[now, state + 2] /= largest
        cells[now, begin] = cells[now, begin + 1] = cells[now, end + 3] = cells[now, end + 4] = 0.0
        before, low, high = now, begin, end
    result = cells[before, num_states + 1] + cells[before, num_states] if high == num_states - 1 else 0.0
    if high == num_states - 2:
        result = cells[before, num_states]
    if result < SMALLEST:
        return -np.inf, 1.0
    return log_prob + math.log(result), dropped / result


@kernel("float64(float64, float64)", inner=True)
def _log_add(a: float, b: float) -> Scalar:
    """Return the logarithm of exp(a) + exp(b)."""
    if a < b:
        a, b = b, a
    return a + math.log1p(math.exp(b - a)) if b > -np.inf else a


@kernel("float64(float64[:, ::1], int32[::1], float64[:, ::1])")
def forward_in_logarithms(probs: Array, labels: Array, cells: Array) -> Scalar:
    """Return the log-probability, slowly and for any input; cells (2, 2L + 5) are -inf."""
    num_states, before = 2 * labels.size + 1, 1
    cells[before, 2] = 0.0
    for frame in range(probs.shape[0]):
        now = 1 - before
        for state in range(num_states):
            label, skipped = np.int32(0), -np.inf
            if state & 1:
                label = labels[state >> 1]
                if state > 1 and labels[(state >> 1) - 1] != label:
                    skipped = cells[before, state]
            log_mass = _log_add(_log_add(cells[before, state + 2], cells[before, state + 1]), skipped)
            p = probs[frame, label]
            cells[now, state + 2] = log_mass + math.log(p) if p > 0.0 else -np.inf
        before = now
    return _log_add(cells[before, num_states + 1], cells[before, num_states])
