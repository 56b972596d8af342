"""The kernels of CTC prefix beam search (Hannun et al. 2014, arXiv:1408.2873), exact where the beam holds everything.

Every prefix of the beam has two masses: of its alignments that end in a blank and of those that end in its last class.
They are linear, weighted by the language model, and rescaled so that the best prefix of a frame has about 1; a prefix
that is reached both from itself and from its parent is one candidate, which is what keeps the search exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.decoders.fusion import FUSION, SPACE, START, fill_row, finish_text, finish_words, start_node
from hw_asr.decoders.prefix_tree import COLUMNS, PARENT, SLOT, STATE, compact, find_or_add, grow, hash_size
from hw_asr.jit import Array, kernel

NODE, LAST, ROW = 0, 1, 2
"""Columns of a beam slot: node of the prefix, its last class, its row of weights."""
ENDS_IN_BLANK, ENDS_IN_SYMBOL = 0, 1
"""Columns of a mass."""


@kernel(
    "Tuple((int64, float64))(float64[::1], int32[::1], int64, int32[:, ::1], int32[:, ::1], float64[:, ::1], int64, "
    "float64[:, ::1], int32[:, ::1], int64, float64, float64[:, ::1], float64[::1], int32[::1])"
)
def expand(
    p: Array,
    active: Array,
    num_active: int,
    nodes: Array,
    beam: Array,
    masses: Array,
    num_beam: int,
    rows: Array,
    taken: Array,
    frame: int,
    threshold: float,
    stays: Array,
    scores: Array,
    ids: Array,
) -> tuple[Any, ...]:
    """List what the prefixes of the beam can become in a frame; return how many candidates and the best score.

    p (V,) are the probabilities of the classes, `active` those of them that are not the blank and not 0. A candidate
    `id` is slot * V + class, class 0 for staying the same prefix, whose new masses go to `stays` (W, 2).
    """
    num_classes = p.size
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
            from_itself += mass * p[last] * rows[beam[above, ROW], last]
            taken[above, last] = frame
        stays[slot, ENDS_IN_BLANK] = (masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]) * p[0]
        stays[slot, ENDS_IN_SYMBOL] = from_itself
        scores[slot] = stays[slot, ENDS_IN_BLANK] + from_itself
        ids[slot] = slot * num_classes
        best = max(best, scores[slot])
        worst = min(worst, scores[slot])
    cut = max(best * threshold, worst if num_beam == beam.shape[0] else 0.0)
    count = num_beam
    for slot in range(num_beam):
        last, row = beam[slot, LAST], beam[slot, ROW]
        total = masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL]
        for place in range(num_active):
            symbol = active[place]
            mass = masses[slot, ENDS_IN_BLANK] if symbol == last else total
            score = mass * p[symbol] * rows[row, symbol]
            if score > cut and taken[slot, symbol] != frame:
                scores[count] = score
                ids[count] = slot * num_classes + symbol
                count += 1
                best = max(best, score)
    return count, best


@kernel("int64(float64[::1], int32[::1], int64, float64, int64)")
def select(scores: Array, ids: Array, count: int, limit: float, width: int) -> int:
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
    return min(kept, width)


@kernel(
    "int64(float64[::1], int32[::1], int64, int64, float64, float64[:, ::1], int32[:, ::1], int32[::1], int64, "
    "int32[:, ::1], float64[:, ::1], int64, int32[:, ::1], float64[:, ::1])"
)
def commit(
    scores: Array,
    ids: Array,
    count: int,
    num_classes: int,
    scale: float,
    stays: Array,
    nodes: Array,
    table: Array,
    num_nodes: int,
    beam: Array,
    masses: Array,
    num_beam: int,
    new_beam: Array,
    new_masses: Array,
) -> int:
    """Make the chosen candidates the new beam, without rows for new prefixes; return the number of nodes then."""
    for slot in range(num_beam):
        nodes[beam[slot, NODE], SLOT] = -1
    for place in range(count):
        slot, symbol = divmod(ids[place], num_classes)
        if symbol == 0:
            for column in range(3):
                new_beam[place, column] = beam[slot, column]
            new_masses[place, ENDS_IN_BLANK] = stays[slot, ENDS_IN_BLANK] * scale
            new_masses[place, ENDS_IN_SYMBOL] = stays[slot, ENDS_IN_SYMBOL] * scale
        else:
            node = find_or_add(nodes, table, num_nodes, beam[slot, NODE], symbol)
            num_nodes = max(num_nodes, node + 1)
            new_beam[place, NODE], new_beam[place, LAST], new_beam[place, ROW] = node, symbol, 0
            new_masses[place, ENDS_IN_BLANK] = 0.0
            new_masses[place, ENDS_IN_SYMBOL] = scores[place] * scale
        nodes[new_beam[place, NODE], SLOT] = place
    return num_nodes


@kernel(
    "void(int32[::1], int64, int64, int32[:, ::1], int32[:, ::1], int32[:, ::1], float64[:, ::1], int32[::1], "
    + FUSION
    + ")"
)
def weigh(
    ids: Array,
    count: int,
    num_classes: int,
    nodes: Array,
    beam: Array,
    new_beam: Array,
    rows: Array,
    next_states: Array,
    fusion: tuple[Any, ...],
) -> None:
    """Give every prefix that is new in the beam its state of the language model and a row of weights."""
    used = np.zeros(rows.shape[0], np.bool_)
    for place in range(count):
        slot, symbol = divmod(ids[place], num_classes)
        if symbol == 0:
            used[new_beam[place, ROW]] = True
        else:
            state = next_states[beam[slot, ROW]]
            start_node(nodes, new_beam[place, NODE], beam[slot, NODE], symbol, state, fusion)
    free = 0
    for place in range(count):
        if ids[place] % num_classes != 0:
            while used[free]:
                free += 1
            new_beam[place, ROW] = free
            fill_row(nodes, new_beam[place, NODE], rows[free], fusion)
            free += 1


@kernel("int64(float64[::1], float64, float64[::1], int32[::1])")
def choose_classes(probs: Array, floor: float, p: Array, active: Array) -> int:
    """Copy the probabilities of a frame that reach `floor` to `p` and list their classes; return how many.

    The largest is 1 and always copied; the blank is not listed.
    """
    num_active = 0
    for symbol in range(probs.size):
        p[symbol] = probs[symbol] if probs[symbol] >= min(floor, 1.0) else 0.0
        if symbol > 0 and p[symbol] > 0.0:
            active[num_active] = symbol
            num_active += 1
    return num_active


@kernel(
    "Tuple((int32[:, ::1], int32[::1], float64[::1]))(float64[:, ::1], float64[::1], int64, float64, boolean, "
    + FUSION
    + ")"
)
def search(
    probs: Array, floors: Array, beam_size: int, threshold: float, fused: bool, fusion: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Search the prefixes of an utterance.

    probs (T, V) are divided by the largest of their frame; those below floors (T,) and prefixes below `threshold`
    times the best are dropped. Returns the tree's nodes, and of the last beam each prefix's node and log score.
    """
    num_frames, num_classes = probs.shape
    nodes, num_nodes = np.zeros((8 * beam_size + 1024, COLUMNS), np.int32), 1
    table = np.full(hash_size(nodes.shape[0]), -1, np.int32)
    beam, new_beam = np.zeros((beam_size, 3), np.int32), np.zeros((beam_size, 3), np.int32)
    masses, new_masses = np.zeros((beam_size, 2)), np.zeros((beam_size, 2))
    rows, next_states = np.ones((beam_size if fused else 1, num_classes)), np.zeros(beam_size, np.int32)
    taken = np.full((beam_size, num_classes), -1, np.int32)
    stays = np.empty((beam_size, 2))
    scores, ids = np.empty(beam_size * num_classes), np.empty(beam_size * num_classes, np.int32)
    p, active = np.empty(num_classes), np.empty(num_classes, np.int32)
    nodes[0, PARENT] = -1
    nodes[0, STATE] = fusion[1][START]
    masses[0, ENDS_IN_BLANK], num_beam = 1.0, 1
    if fused:
        fill_row(nodes, 0, rows[0], fusion)
    for frame in range(num_frames):
        num_active = choose_classes(probs[frame], floors[frame], p, active)
        if num_active == 0:
            for slot in range(num_beam):
                masses[slot, ENDS_IN_BLANK] += masses[slot, ENDS_IN_SYMBOL]
                masses[slot, ENDS_IN_SYMBOL] = 0.0
            continue
        if fused and fusion[1][SPACE] >= 0 and p[fusion[1][SPACE]] > 0.0:
            finish_words(nodes, beam, num_beam, rows, next_states, fusion)
        count, best = expand(
            p, active, num_active, nodes, beam, masses, num_beam, rows, taken, frame, threshold, stays, scores, ids
        )
        count = select(scores, ids, count, best * threshold, beam_size)
        if num_nodes + count > nodes.shape[0]:
            num_nodes = compact(nodes, table, num_nodes, beam, num_beam)
            if num_nodes + count > nodes.shape[0] // 2:
                nodes, table = grow(nodes, table, num_nodes)
        num_nodes = commit(
            scores, ids, count, num_classes, 1.0 / best, stays, nodes, table, num_nodes,
            beam, masses, num_beam, new_beam, new_masses,
        )  # fmt: skip
        if fused:
            weigh(ids, count, num_classes, nodes, beam, new_beam, rows, next_states, fusion)
        beam, new_beam, masses, new_masses, num_beam = new_beam, beam, new_masses, masses, count
    ranks = np.empty(num_beam)
    for slot in range(num_beam):
        ranks[slot] = np.log(masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL])
        if fused:
            ranks[slot] += finish_text(nodes, beam[slot, NODE], fusion)
    return nodes, beam[:num_beam, NODE].copy(), ranks
