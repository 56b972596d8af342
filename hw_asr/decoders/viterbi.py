"""The best path of a labelling through the frames: the Viterbi recursion over the CTC graph, in kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.runtime.kernels import Float64Matrix, Int8Matrix, Int32Vector, kernel


class Block(NamedTuple):
    """Frames `first` to `last` - 1 and states `low` to `high`; states 0 .. 2L alternate between blank and labels."""

    first: int
    last: int
    low: int
    high: int


@kernel
def advance(
    log_probs: Float64Matrix, labels: Int32Vector, scores: Float64Matrix, steps: Int8Matrix, block: Block
) -> int:
    """Take the scores over the frames and states of a block; return the row they end in.

    log_probs (T, V), labels (L,). scores (2, 2L + 3): row 0 holds those before the block, two empty cells before the
    states, row 1 is -inf. steps (last - first, high - low + 1) takes how many states back each frame's best way came
    from; with no rows it is left out. Of equally good ways the one that stays is taken.
    """
    num_frames, num_states = log_probs.shape[0], 2 * labels.size + 1
    before = 0
    first, last, low, high = block
    for frame in range(first, last):
        now = 1 - before
        begin, end = num_states - 2 * (num_frames - frame), 2 * frame + 1
        begin = begin if begin > low else low
        end = end if end < high else high
        if begin > 0:
            scores[now, begin] = scores[now, begin + 1] = -np.inf
        for state in range(begin, end + 1):
            best, step, label = scores[before, state + 2], 0, np.int32(0)
            if scores[before, state + 1] > best:
                best, step = scores[before, state + 1], 1
            if state & 1:
                label = labels[state >> 1]
                if state > 1 and labels[(state >> 1) - 1] != label and scores[before, state] > best:
                    best, step = scores[before, state], 2
            scores[now, state + 2] = best + log_probs[frame, label]
            if steps.shape[0] > 0:
                steps[frame - first, state - low] = step
        before = now
    return before


@kernel
def trace(steps: Int8Matrix, path: Int32Vector, first: int, low: int, state: int) -> int:
    """Write the states of the frames from `first` on, which end in `state`, to path (T,); return the state before."""
    for frame in range(steps.shape[0] - 1, -1, -1):
        path[first + frame] = state
        state -= steps[frame, state - low]
    return state
