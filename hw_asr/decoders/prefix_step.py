"""One frame of CTC prefix beam search: choose classes, expand, select and commit, as kernels.

Every prefix of the beam has two masses: of its alignments that end in a blank and of those that end in its last class.
They are linear, weighted by the language model, and rescaled so that the best prefix of a frame has 1; a prefix that is
reached both from itself and from its parent is one candidate, which is what keeps the search exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.decoders.fusion import BOUND, FUSION, finish_space
from hw_asr.decoders.prefix_tree import PARENT, SLOT, find_or_add
from hw_asr.runtime.kernels import Array, Scalar, kernel

NODE, LAST, ROW = range(3)
"""Columns of a beam slot: node of the prefix, its last class, its row of weights."""
ENDS_IN_BLANK, ENDS_IN_SYMBOL = range(2)
"""Columns of a mass."""
SLOT_SHIFT, CLASS_MASK = 32, (1 << 32) - 1
"""How a candidate's id holds slot and class."""


@kernel("int64(float64[:, ::1], int64, float64, int64, float64[::1], int32[::1])", inner=True)
def choose_classes(probs: Array, frame: int, floor: float, space: int, p: Array, active: Array) -> Scalar:
    """Copy the probabilities of a frame that reach `floor` to `p` and list their classes, likeliest first.

    The largest is 1 and always copied; the blank and `space` are not listed. Returns how many are.
    """
    num_active = 0
    for symbol in range(p.size):
        value = probs[frame, symbol]
        p[symbol] = value if value >= floor or value == 1.0 else 0.0
        if symbol > 0 and symbol != space and p[symbol] > 0.0:
            place = num_active
            while place > 0 and p[active[place - 1]] < value:
                active[place] = active[place - 1]
                place -= 1
            active[place] = symbol
            num_active += 1
    return num_active


@kernel(
    "Tuple((int64, float64))(float64[::1], int32[::1], int64, int64, int32[:, ::1], int32[:, ::1], float64[:, ::1], "
    "int64, float64[:, ::1], int32[:, ::1], int32[:, ::1], int64, float64, float64[:, ::1], float64[::1], int64[::1], "
    + FUSION
    + ")",
    inner=True,
)
def expand(
    p: Array, active: Array, num_active: int, space: int, nodes: Array, beam: Array, masses: Array, num_beam: int,
    rows: Array, row_states: Array, taken: Array, frame: int, threshold: float, stays: Array, scores: Array, ids: Array,
    fusion: tuple[Any, ...],
) -> tuple[Scalar, Scalar]:  # fmt: skip
    """List what the prefixes of the beam can become in a frame; return how many candidates and the best score.

    p (V,) are the probabilities of the classes, `active` those of them that are not 0, likeliest first, without the
    blank and without `space`, the class that a language model weighs, or -1. A candidate `id` is slot and class, class
    0 for staying the same prefix, whose new masses go to `stays` (W, 2).
    """
    best, worst = 0.0, np.inf
    for slot in range(num_beam):
        last = beam[slot, LAST]
        from_itself = masses[slot, ENDS_IN_SYMBOL] * p[last]
        parent = nodes[beam[slot, NODE], PARENT]
        above = nodes[parent, SLOT] if parent >= 0 else np.int32(-1)
        if above >= 0:
            mass = masses[above, ENDS_IN_BLANK]
            if beam[above, LAST] != last:
                mass += masses[above, ENDS_IN_SYMBOL]
            weight = rows[beam[above, ROW], last]
            if weight < 0.0:
                weight = finish_space(nodes, beam[above, NODE], rows, beam[above, ROW], row_states, fusion)
            from_itself += mass * p[last] * weight
            taken[above, last] = frame
        stays[slot, ENDS_IN_BLANK] = (masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]) * p[0]
        stays[slot, ENDS_IN_SYMBOL] = from_itself
        scores[slot] = stays[slot, ENDS_IN_BLANK] + from_itself
        ids[slot] = slot << SLOT_SHIFT
        if scores[slot] > best:
            best = scores[slot]
        if scores[slot] < worst:
            worst = scores[slot]
    cut = best * threshold
    if num_beam == beam.shape[0] and worst > cut:
        cut = worst
    count = num_beam
    for slot in range(num_beam):
        last, row = beam[slot, LAST], beam[slot, ROW]
        total = masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]
        for place in range(-1 if space >= 0 else 0, num_active):
            symbol = active[place] if place >= 0 else np.int32(space)
            if place >= 0 and total * p[symbol] * rows[row, BOUND] <= cut:
                break
            mass = masses[slot, ENDS_IN_BLANK] if symbol == last else total
            score = mass * p[symbol] * rows[row, symbol]
            if score < -cut:  # a space that has not been weighed and may be worth it
                score = mass * p[symbol] * finish_space(nodes, beam[slot, NODE], rows, row, row_states, fusion)
            if score > cut and taken[slot, symbol] != frame:
                scores[count] = score
                ids[count] = (slot << SLOT_SHIFT) | np.int64(symbol)
                count += 1
                if score > best:
                    best = score
    return count, best


@kernel("int64(float64[::1], int64[::1], int64, float64, int64)", inner=True)
def select(scores: Array, ids: Array, count: int, limit: float, width: int) -> Scalar:
    """Move the `width` best of `count` candidates that reach `limit` to the front, in no order; return how many."""
    kept = 0
    for place in range(count):
        if scores[place] >= limit and scores[place] > 0.0:
            scores[kept], ids[kept] = scores[place], ids[place]
            kept += 1
    low, high = 0, kept - 1
    while width < kept and low < high:  # Hoare's selection
        pivot = scores[(low + high) >> 1]
        left, right = low, high
        while left <= right:
            while scores[left] > pivot:
                left += 1
            while scores[right] < pivot:
                right -= 1
            if left <= right:
                scores[left], scores[right] = scores[right], scores[left]
                ids[left], ids[right] = ids[right], ids[left]
                left += 1
                right -= 1
        if width - 1 <= right:
            high = right
        elif width - 1 >= left:
            low = left
        else:
            break
    return kept if kept < width else width


@kernel(
    "int64(float64[::1], int64[::1], int64, float64, float64[:, ::1], int32[:, ::1], int32[::1], int64, "
    "int32[:, ::1], float64[:, ::1], int64, int32[:, ::1], float64[:, ::1])",
    inner=True,
)
def commit(
    scores: Array, ids: Array, count: int, scale: float, stays: Array, nodes: Array, table: Array,
    num_nodes: int, beam: Array, masses: Array, num_beam: int, new_beam: Array, new_masses: Array,
) -> Scalar:  # fmt: skip
    """Make the chosen candidates the new beam, without rows for new prefixes; return the number of nodes then."""
    for slot in range(num_beam):
        nodes[beam[slot, NODE], SLOT] = -1
    for place in range(count):
        slot, symbol = ids[place] >> SLOT_SHIFT, ids[place] & CLASS_MASK
        if symbol == 0:
            for column in range(3):
                new_beam[place, column] = beam[slot, column]
            new_masses[place, ENDS_IN_BLANK] = stays[slot, ENDS_IN_BLANK] * scale
            new_masses[place, ENDS_IN_SYMBOL] = stays[slot, ENDS_IN_SYMBOL] * scale
        else:
            node = find_or_add(nodes, table, num_nodes, beam[slot, NODE], symbol)
            if node == num_nodes:
                num_nodes += 1
            new_beam[place, NODE], new_beam[place, LAST], new_beam[place, ROW] = node, symbol, 0
            new_masses[place, ENDS_IN_BLANK] = 0.0
            new_masses[place, ENDS_IN_SYMBOL] = scores[place] * scale
        nodes[new_beam[place, NODE], SLOT] = place
    return num_nodes
