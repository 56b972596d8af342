"""The beam of a prefix search: its memory, and the next beam from the candidates that were selected, as kernels."""

from __future__ import annotations

from typing import NamedTuple

from hw_asr.decoders.fusion import AFTER_WORD, IN_USE, Rows, fill_row, start_node
from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.prefix_tree import SLOT, Tree, find_or_add
from hw_asr.runtime.kernels import Float64Matrix, Float64Vector, Int32Matrix, Int64Matrix, Int64Vector, inner_kernel

NODE, LAST, ROW = range(3)
"""Columns of a beam slot: node of the prefix, its last class, its row of weights."""
ENDS_IN_BLANK, ENDS_IN_SYMBOL = range(2)
"""Columns of a mass."""
SLOT_SHIFT, CLASS_MASK = 32, (1 << 32) - 1
"""How a candidate's id combines slot and class."""


class Beam(NamedTuple):
    """The prefixes that survive a frame.

    Every prefix has two masses: of its alignments that end in a blank and of those that end in its last class. They are
    linear, weighted by the language model, and rescaled so that the best prefix of a frame has 1. A prefix that is
    reached both from itself and from its parent is one candidate, which is what keeps the search exact.
    """

    slots: Int32Matrix
    """(W, 3)."""
    masses: Float64Matrix
    """(W, 2)."""
    size: int
    """How many slots are used."""


class Candidates(NamedTuple):
    """What the prefixes of the beam can become in a frame."""

    scores: Float64Vector
    """(W * V,)."""
    ids: Int64Vector
    """(W * V,) slot and class; class 0 for staying the same prefix."""
    stays: Float64Matrix
    """(W, 2) new masses of those that stay."""
    taken: Int64Matrix
    """(W, V) the number of the last frame in which an extension already was a prefix of the beam."""


@inner_kernel
def commit(candidates: Candidates, scale: float, tree: Tree, num_nodes: int, beam: Beam, new_beam: Beam) -> int:
    """Make the first candidates the new beam, without rows for new prefixes; return the new number of nodes."""
    nodes, stays = tree.nodes, candidates.stays
    slots, masses = new_beam.slots, new_beam.masses
    for slot in range(beam.size):
        nodes[beam.slots[slot, NODE], SLOT] = -1
    for place in range(new_beam.size):
        slot, symbol = candidates.ids[place] >> SLOT_SHIFT, candidates.ids[place] & CLASS_MASK
        if symbol == 0:
            for column in range(3):
                slots[place, column] = beam.slots[slot, column]
            masses[place, ENDS_IN_BLANK] = stays[slot, ENDS_IN_BLANK] * scale
            masses[place, ENDS_IN_SYMBOL] = stays[slot, ENDS_IN_SYMBOL] * scale
        else:
            node = find_or_add(tree, num_nodes, beam.slots[slot, NODE], symbol)
            if node == num_nodes:
                num_nodes += 1
            slots[place, NODE], slots[place, LAST], slots[place, ROW] = node, symbol, 0
            masses[place, ENDS_IN_BLANK] = 0.0
            masses[place, ENDS_IN_SYMBOL] = candidates.scores[place] * scale
        nodes[slots[place, NODE], SLOT] = place
    return num_nodes


@inner_kernel
def weigh(candidates: Candidates, tree: Tree, beam: Beam, new_beam: Beam, rows: Rows, fusion: Fusion) -> None:
    """Give every prefix that is new in the beam its state of the language model and a row of weights."""
    slots, ids = new_beam.slots, candidates.ids
    for slot in range(beam.size):  # no other rows can be in use
        rows.states[beam.slots[slot, ROW], IN_USE] = 0
    for place in range(new_beam.size):
        slot, symbol = ids[place] >> SLOT_SHIFT, ids[place] & CLASS_MASK
        if symbol == 0:
            rows.states[slots[place, ROW], IN_USE] = 1
        else:
            state = rows.states[beam.slots[slot, ROW], AFTER_WORD]
            start_node(tree.nodes, slots[place, NODE], beam.slots[slot, NODE], symbol, state, fusion)
    free = 0
    for place in range(new_beam.size):
        if ids[place] & CLASS_MASK != 0:
            while rows.states[free, IN_USE]:
                free += 1
            slots[place, ROW] = free
            fill_row(tree.nodes, slots[place, NODE], rows, free, fusion)
            free += 1
