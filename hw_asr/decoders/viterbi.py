"""The best path of a labelling through the frames: the Viterbi recursion over the CTC graph, in kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.runtime.kernels import Float64Matrix, Float64Vector, Int8Matrix, Int32Vector, inner_kernel, kernel

SKIPS_WORDS, INHERITS = 3, 4
"""Steps that are not a number of states: into a word from a gap before skipped words; a mark on a gap whose cheapest
way into a later word comes from an earlier gap."""


class Graph(NamedTuple):
    """The states 0 .. 2L of a labelling: they alternate between blanks and labels.

    Some of the blanks may be gaps between words. Their class is the last one of the log-probabilities, and a path may
    go from a gap to the first label of any later word.
    """

    labels: Int32Vector
    """(L,)."""
    skips: Float64Vector
    """(L + 1,) for each blank: the cost of skipping all words before it if it is a gap (ascending), else -1. Without
    gaps all are -1; with gaps the first and the last one are gaps."""
    opening: float
    """The cost of leaving out any number of consecutive words, besides theirs."""


class Block(NamedTuple):
    """Frames `first` to `last` - 1 and states `low` to `high`."""

    first: int
    last: int
    low: int
    high: int


class Pruning(NamedTuple):
    """Paths that a search with gaps does not follow."""

    floor: float
    """Those with a score below this."""
    beam: float
    """Those that are so much worse than the best one in the same frame."""


@inner_kernel
def clear(scores: Float64Matrix, row: int, first: int, last: int) -> None:
    """Set the scores of the states `first` to `last` in a row to -inf."""
    for state in range(first, last + 1):
        scores[row, state + 2] = -np.inf


@inner_kernel
def alive(scores: Float64Matrix, row: int, first: int, last: int, floor: float) -> tuple[int, int]:
    """Return the first and the last state, of `first` to `last`, whose scores in a row are not below `floor`."""
    while first < last and scores[row, first + 2] < floor:
        first += 1
    while last > first and scores[row, last + 2] < floor:
        last -= 1
    return first, last


@kernel
def advance(
    log_probs: Float64Matrix, graph: Graph, scores: Float64Matrix, steps: Int8Matrix, block: Block, pruning: Pruning
) -> int:
    """Take the scores over the frames and states of a block; return the row they end in.

    log_probs (T, V). scores (2, 2L + 3): row 0 holds those before the block, two empty cells before the states, row 1
    is -inf. steps (last - first, high - low + 1) takes how many states back each frame's best way came from; with no
    rows it is left out. Of equally good ways the one that stays is taken. In a graph with gaps, states below `low`
    must have the score -inf before the block; `pruning` is for such graphs only.
    """
    labels, skips, opening = graph
    num_frames, num_states, gap = log_probs.shape[0], 2 * labels.size + 1, log_probs.shape[1] - 1
    has_gaps = skips[0] >= 0
    before, first, last, low, high = 0, block.first, block.last, block.low, block.high
    begin, top, written, written_before, largest = low, high, low, high, -np.inf
    for state in range(low, high + 1):
        largest = max(largest, scores[0, state + 2])
    for frame in range(first, last):
        now = 1 - before
        if has_gaps:
            floor = max(pruning.floor, largest - pruning.beam)
            begin, top = alive(scores, before, begin, written_before, floor)
            top, end, largest = top + 2, high, -np.inf
        else:
            floor, begin, end = -np.inf, num_states - 2 * (num_frames - frame), 2 * frame + 1
            begin, end = max(begin, low), min(end, high)
        if begin > 0:
            clear(scores, now, begin - 2, begin - 1)
        cheapest = -np.inf
        for state in range(begin, end + 1):
            best, step, label, place = scores[before, state + 2], 0, np.int32(0), state >> 1
            if scores[before, state + 1] > best:
                best, step = scores[before, state + 1], 1
            if state & 1:
                label = labels[place]
                if state > 1 and labels[place - 1] != label and scores[before, state] > best:
                    best, step = scores[before, state], 2
                if skips[place] >= 0 and cheapest - skips[place] - opening > best:
                    best, step = cheapest - skips[place] - opening, SKIPS_WORDS
            elif skips[place] >= 0:
                if state > top and cheapest - skips[place] - opening < floor:
                    end = state - 1
                    break
                label = np.int32(gap)
                if scores[before, state + 2] + skips[place] >= cheapest:
                    cheapest = scores[before, state + 2] + skips[place]
                else:
                    step |= INHERITS
            best += log_probs[frame, label]
            scores[now, state + 2] = best
            largest = best if best > largest else largest
            if steps.shape[0] > 0:
                steps[frame - first, state - low] = step
        if has_gaps:
            clear(scores, now, end + 1, written)
            written, written_before = written_before, end
        before = now
    if has_gaps:
        clear(scores, before, -2, begin - 1)
    return before


@kernel
def trace(steps: Int8Matrix, skips: Float64Vector, path: Int32Vector, block: Block, state: int) -> int:
    """Write the states of a block's frames, which end in `state`, to path (T,); return the state before."""
    low = block.low
    for frame in range(block.last - block.first - 1, -1, -1):
        path[block.first + frame] = state
        step = steps[frame, state - low] & 3
        if step != SKIPS_WORDS:
            state -= step
            continue
        state -= 1
        while steps[frame, state - low] & INHERITS:
            state -= 2
            while skips[state >> 1] < 0:
                state -= 2
    return state
