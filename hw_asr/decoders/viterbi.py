"""The best path of a labelling through the frames: the Viterbi kernel over the CTC graph."""

from __future__ import annotations

import numpy as np

from hw_asr.jit import Array, Scalar, kernel


@kernel("float64(float64[:, ::1], int32[::1], float64[:, ::1], int8[:, ::1], int32[::1])")
def best_path(log_probs: Array, labels: Array, scores: Array, steps: Array, path: Array) -> Scalar:
    """Write the state of every frame to path (T,) and return the path's log-probability, -inf when there is none.

    log_probs (T, V), labels (L,); states 0 .. 2L alternate between the blank and the labels. scores (2, 2L + 3), -inf,
    and steps (T, 2L + 1) are room to work in. Of equally good ways the one that stays is taken.
    """
    num_frames, num_states = log_probs.shape[0], 2 * labels.size + 1
    before = 1
    scores[before, 2] = 0.0
    for frame in range(num_frames):
        now = 1 - before
        begin, end = num_states - 2 * (num_frames - frame), 2 * frame + 1
        begin = begin if begin > 0 else 0
        end = end if end < num_states - 1 else num_states - 1
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
            steps[frame, state] = step
        before = now
    state = num_states - 1
    if state > 0 and scores[before, state + 1] > scores[before, state + 2]:
        state -= 1
    result = scores[before, state + 2]
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state -= steps[frame, state]
    return result
