"""The forward recursion of CTC in logarithms: slower, for the rare texts that linear numbers cannot hold."""

from __future__ import annotations

import math

import numpy as np

from hw_asr.runtime.kernels import Array, Scalar, kernel


@kernel("float64(float64, float64)", inner=True)
def _log_add(a: float, b: float) -> Scalar:
    """Return the logarithm of exp(a) + exp(b)."""
    if a < b:
        a, b = b, a
    return a + math.log1p(math.exp(b - a)) if b > -np.inf else a


@kernel("float64(float64[:, ::1], int32[::1], float64[:, ::1])")
def forward_in_logarithms(probs: Array, labels: Array, cells: Array) -> Scalar:
    """Return the log-probability, slowly and for any input; cells (2, 2L + 6) are -inf."""
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
