"""The exact CTC probability of a text: the forward recursion of Graves et al. (2006), on the cells that matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.jit import Array, kernel

NEGLIGIBLE = 1e-80
"""Cells below this part of a frame's largest are dropped; what that may have cost is bounded on the way."""
TOLERANCE = 1e-13
"""The part of the result that may have been dropped; else the recursion is done again in logarithms."""


@kernel("Tuple((float64, float64))(float64[:, ::1], int32[::1])")
def _linear(probs: Array, labels: Array) -> tuple[Any, ...]:
    """Return the log-probability and a bound on the part of it that dropped cells may have had.

    States 0 .. 2L alternate between the blank and the labels; the two rows have two empty cells in front. The last
    rescaled value is not allowed to be so small that numbers below the smallest double could have been part of it.
    """
    num_frames, num_states = probs.shape[0], 2 * labels.size + 1
    now, before = np.zeros(num_states + 2), np.zeros(num_states + 2)
    before[2], log_prob, dropped = 1.0, 0.0, 0.0
    low, high = 0, 0  # the states of `before` that are not 0
    for frame in range(num_frames):
        p = probs[frame]
        begin = max(low, num_states - 2 * (num_frames - frame))
        end = min(high + 2, num_states - 1)
        largest = 0.0
        for state in range(begin, end + 1):
            if state & 1:
                label = labels[state >> 1]
                mass = before[state + 2] + before[state + 1]
                if state > 1 and labels[(state >> 1) - 1] != label:
                    mass += before[state]
                now[state + 2] = mass * p[label]
            else:
                now[state + 2] = (before[state + 2] + before[state + 1]) * p[0]
            largest = max(largest, now[state + 2])
        if largest == 0.0:
            return -np.inf, 1.0
        dropped *= p.sum()
        while now[begin + 2] < NEGLIGIBLE * largest:
            dropped += now[begin + 2]
            begin += 1
        while now[end + 2] < NEGLIGIBLE * largest:
            dropped += now[end + 2]
            end -= 1
        dropped /= largest
        log_prob += np.log(largest)
        for state in range(begin, end + 1):
            now[state + 2] /= largest
        now[begin], now[begin + 1] = 0.0, 0.0
        for state in range(end + 1, min(end + 3, num_states)):
            now[state + 2] = 0.0
        before, now, low, high = now, before, begin, end
    result = 0.0
    for state in range(max(low, num_states - 2), high + 1):
        result += before[state + 2]
    if result < 1e-200:
        return -np.inf, 1.0
    return log_prob + np.log(result), dropped / result


@kernel("float64(float64[:, ::1], int32[::1])")
def _logarithmic(probs: Array, labels: Array) -> float:
    """Return the log-probability, slowly and for any input."""
    num_states = 2 * labels.size + 1
    now, before = np.empty(num_states + 2), np.full(num_states + 2, -np.inf)
    before[2] = 0.0
    for frame in range(probs.shape[0]):
        now[:2] = -np.inf
        for state in range(num_states):
            label = labels[state >> 1] if state & 1 else np.int32(0)
            a, b, c = before[state + 2], before[state + 1], -np.inf
            if state & 1 and state > 1 and labels[(state >> 1) - 1] != label:
                c = before[state]
            top = max(a, max(b, c))
            now[state + 2] = -np.inf
            if top > -np.inf and probs[frame, label] > 0.0:
                total = np.exp(a - top) + np.exp(b - top) + np.exp(c - top)
                now[state + 2] = top + np.log(total) + np.log(probs[frame, label])
        before, now = now, before
    a, b = before[num_states + 1], before[num_states] if num_states > 1 else -np.inf
    top = max(a, b)
    return top + np.log(np.exp(a - top) + np.exp(b - top)) if top > -np.inf else top


@kernel("float64(float64[:, ::1], float64, int32[::1])")
def log_likelihood(probs: Array, log_scale: float, labels: Array) -> float:
    """Return the log-probability of `labels` (L,): probs (T, V), each frame divided by its largest value.

    `log_scale` is the sum of the logarithms of those.
    """
    num_frames = probs.shape[0]
    if num_frames == 0:
        return 0.0 if labels.size == 0 else -np.inf
    needed = labels.size
    for place in range(1, labels.size):
        needed += labels[place] == labels[place - 1]
    if needed > num_frames:
        return -np.inf
    log_prob, lost = _linear(probs, labels)
    if not log_prob > -460.0 or lost > TOLERANCE:
        return log_scale + _logarithmic(probs, labels)
    return log_scale + log_prob
