"""One frame of CTC prefix beam search: choose classes, list the candidates and select the best, as kernels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.frames import Frames
from hw_asr.decoders.fusion import BOUND, Rows, finish_space
from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.prefix_beam import ENDS_IN_BLANK, ENDS_IN_SYMBOL, LAST, NODE, ROW, SLOT_SHIFT, Beam, Candidates
from hw_asr.decoders.prefix_tree import PARENT, SLOT, Tree
from hw_asr.runtime.kernels import Float64Vector, Int32Vector, inner_kernel


class Frame(NamedTuple):
    """What `expand` needs of a frame."""

    p: Float64Vector
    """(V,) probabilities divided by the largest, 0 below the floor."""
    active: Int32Vector
    """Classes that are not 0, likeliest first, without the blank and the space of a language model."""
    num_active: int
    space: int
    """The class that the language model weighs, or -1."""
    number: int
    """Unlike that of any frame before."""
    threshold: float
    """Candidates below this part of the best are dropped."""


@inner_kernel
def choose_classes(frames: Frames, frame: int, floor: float, space: int, p: Float64Vector, active: Int32Vector) -> int:
    """Copy the probabilities of a frame that reach `floor` to `p` and list their classes, likeliest first.

    The largest is always copied; the blank and `space` are not listed. Returns the number of listed classes.
    """
    num_active = 0
    limit = floor * math.exp(-frames.peaks[frame]) if floor > 0.0 else 0.0
    for symbol in range(p.size):
        value = frames.probs[frame, symbol]
        p[symbol] = value if value >= limit or value == 1.0 else 0.0
        if symbol > 0 and symbol != space and p[symbol] > 0.0:
            place = num_active
            while place > 0 and p[active[place - 1]] < value:
                active[place] = active[place - 1]
                place -= 1
            active[place] = symbol
            num_active += 1
    return num_active


@inner_kernel
def stay(
    frame: Frame, tree: Tree, beam: Beam, candidates: Candidates, rows: Rows, fusion: Fusion
) -> tuple[float, float]:
    """List each prefix of the beam as a candidate to stay as it is; return the best and the worst score."""
    nodes, masses, p, stays = tree.nodes, beam.masses, frame.p, candidates.stays
    best, worst = 0.0, np.inf
    for slot in range(beam.size):
        last = beam.slots[slot, LAST]
        from_itself = masses[slot, ENDS_IN_SYMBOL] * p[last]
        parent = nodes[beam.slots[slot, NODE], PARENT]
        above = nodes[parent, SLOT] if parent >= 0 else np.int32(-1)
        if above >= 0:
            mass = masses[above, ENDS_IN_BLANK]
            if beam.slots[above, LAST] != last:
                mass += masses[above, ENDS_IN_SYMBOL]
            row = beam.slots[above, ROW]
            weight = rows.weights[row, last]
            if weight < 0.0:
                weight = finish_space(nodes, beam.slots[above, NODE], rows, row, fusion)
            from_itself += mass * p[last] * weight
            candidates.taken[above, last] = frame.number
        stays[slot, ENDS_IN_BLANK] = (masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]) * p[0]
        stays[slot, ENDS_IN_SYMBOL] = from_itself
        score = stays[slot, ENDS_IN_BLANK] + from_itself
        candidates.scores[slot] = score
        candidates.ids[slot] = slot << SLOT_SHIFT
        if score > best:
            best = score
        if score < worst:
            worst = score
    return best, worst


@inner_kernel
def expand(
    frame: Frame, tree: Tree, beam: Beam, candidates: Candidates, rows: Rows, fusion: Fusion
) -> tuple[int, float]:
    """List the candidates of a frame; return how many there are and the best score."""
    best, worst = stay(frame, tree, beam, candidates, rows, fusion)
    p, active, scores, ids, masses = frame.p, frame.active, candidates.scores, candidates.ids, beam.masses
    cut = best * frame.threshold
    if beam.size == beam.slots.shape[0] and worst > cut:
        cut = worst
    count = beam.size
    for slot in range(beam.size):
        last, row = beam.slots[slot, LAST], beam.slots[slot, ROW]
        total = masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]
        for place in range(-1 if frame.space >= 0 else 0, frame.num_active):
            symbol = active[place] if place >= 0 else np.int32(frame.space)
            if place >= 0 and total * p[symbol] * rows.weights[row, BOUND] <= cut:
                break
            mass = masses[slot, ENDS_IN_BLANK] if symbol == last else total
            score = mass * p[symbol] * rows.weights[row, symbol]
            if score < -cut:  # a space whose weight is not computed yet and may suffice
                score = mass * p[symbol] * finish_space(tree.nodes, beam.slots[slot, NODE], rows, row, fusion)
            if score > cut and candidates.taken[slot, symbol] != frame.number:
                scores[count] = score
                ids[count] = (slot << SLOT_SHIFT) | np.int64(symbol)
                count += 1
                if score > best:
                    best = score
    return count, best


@inner_kernel
def select(candidates: Candidates, count: int, limit: float, width: int) -> int:
    """Move the `width` best of `count` candidates that reach `limit` to the front, in no order; return how many."""
    scores, ids = candidates.scores, candidates.ids
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
