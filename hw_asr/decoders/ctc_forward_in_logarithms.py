"""The forward recursion of CTC in logarithms: slower, for the rare texts that linear numbers cannot hold."""

from __future__ import annotations

import math

import numpy as np

from hw_asr.decoders.frames import Frames
from hw_asr.runtime.kernels import Float64Matrix, Int32Vector, inner_kernel, kernel


@inner_kernel
def log_add(a: float, b: float) -> float:
    """Return the logarithm of exp(a) + exp(b)."""
    if a < b:
        a, b = b, a
    return a + math.log1p(math.exp(b - a)) if b > -np.inf else a


@kernel
def forward_in_logarithms(frames: Frames, labels: Int32Vector, space: int, cells: Float64Matrix) -> float:
    """Return what `forward` does, slowly and for any input, for the rare texts that linear numbers cannot hold."""
    num_states, before = 2 * labels.size + 1, 1
    for cell in range(num_states + 2):
        cells[before, cell] = 0.0 if cell == 2 else -np.inf
    cells[0, 0] = cells[0, 1] = -np.inf
    for frame in range(frames.num_frames):
        now = 1 - before
        for state in range(num_states):
            label, skipped = np.int32(0), -np.inf
            if state & 1:
                label = labels[state >> 1]
                if state > 1 and labels[(state >> 1) - 1] != label:
                    skipped = cells[before, state]
            log_mass = log_add(log_add(cells[before, state + 2], cells[before, state + 1]), skipped)
            p = frames.probs[frame, label]
            if space >= 0 and (state == 0 or state == num_states - 1):
                p += frames.probs[frame, space]
            cells[now, state + 2] = log_mass + math.log(p) if p > 0.0 else -np.inf
        before = now
    return log_add(cells[before, num_states + 1], cells[before, num_states])
