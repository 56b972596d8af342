"""CTC prefix beam search through an utterance (Hannun et al. 2014, arXiv:1408.2873), exact where the beam holds all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import Matrix
from hw_asr.decoders.fusion import AFTER_WORD, FUSION, IN_USE, SPACE, START, fill_row, finish_text, start_node
from hw_asr.decoders.prefix_step import (
    CLASS_MASK,
    ENDS_IN_BLANK,
    ENDS_IN_SYMBOL,
    NODE,
    ROW,
    SLOT_SHIFT,
    choose_classes,
    commit,
    expand,
    select,
)
from hw_asr.decoders.prefix_tree import STATE, compact, empty_tree, grow, trace
from hw_asr.runtime.kernels import Array, Scalar, kernel

NUM_NODES, NUM_BEAM, HALF = range(3)
Fusion = Callable[[], tuple[Any, ...]]
"""Returns the arrays of `fusion.FUSION`, the questions that were asked in them answered."""
SCRATCH = "Tuple((float64[::1], int32[::1], int32[:, ::1], float64[:, ::1], float64[::1], int64[::1]))"
"""Probabilities of a frame, its active classes, which extensions exist as prefixes, masses of those that stay, and
scores and ids of candidates."""


@kernel(
    "void(int64[::1], int64, int32[:, ::1], int32[:, ::1], int32[:, ::1], float64[:, ::1], int32[:, ::1], "
    + FUSION
    + ")",
    inner=True,
)
def weigh(
    ids: Array, count: int, nodes: Array, beam: Array, new_beam: Array, rows: Array,
    row_states: Array, fusion: tuple[Any, ...],
) -> None:  # fmt: skip
    """Give every prefix that is new in the beam its state of the language model and a row of weights."""
    for row in range(rows.shape[0]):
        row_states[row, IN_USE] = 0
    for place in range(count):
        slot, symbol = ids[place] >> SLOT_SHIFT, ids[place] & CLASS_MASK
        if symbol == 0:
            row_states[new_beam[place, ROW], IN_USE] = 1
        else:
            state = row_states[beam[slot, ROW], AFTER_WORD]
            start_node(nodes, new_beam[place, NODE], beam[slot, NODE], symbol, state, fusion)
    free = 0
    for place in range(count):
        if ids[place] & CLASS_MASK != 0:
            while row_states[free, IN_USE]:
                free += 1
            new_beam[place, ROW] = free
            fill_row(nodes, new_beam[place, NODE], rows, free, fusion)
            free += 1


@kernel(
    "int64(float64[:, ::1], float64[::1], float64, int64, int64[::1], int32[:, ::1], int32[::1], int32[:, :, ::1], "
    "float64[:, :, ::1], " + SCRATCH + ", boolean, float64[:, ::1], int32[:, ::1], " + FUSION + ")"
)
def search(
    probs: Array, floors: Array, threshold: float, frame: int, counts: Array, nodes: Array, table: Array, beams: Array,
    masses: Array, scratch: tuple[Any, ...], fused: bool, rows: Array, row_states: Array, fusion: tuple[Any, ...],
) -> Scalar:  # fmt: skip
    """Take the beam through the frames from `frame` on; return the one it stopped before for want of nodes or n-grams.

    probs (T, V) are divided by the largest of their frame; those below floors (T,) and prefixes below `threshold`
    times the best are dropped. `counts` holds the numbers of nodes and of prefixes, and which half of beams (2, W, 3)
    and masses (2, W, 2) is the current one.
    """
    p, active, taken, stays, scores, ids = scratch
    beam_size, space = beams.shape[1], np.int64(-1)
    if fusion[2][0].size > 0:
        space = np.int64(fusion[1][SPACE])
    if fused and frame == 0:
        fill_row(nodes, 0, rows, 0, fusion)
    while frame < probs.shape[0]:
        num_active = choose_classes(probs, frame, floors[frame], space, p, active)
        beam, mass = beams[counts[HALF]], masses[counts[HALF]]
        num_beam = counts[NUM_BEAM]
        if num_active == 0 and (space < 0 or p[space] == 0.0):
            for slot in range(num_beam):
                mass[slot, ENDS_IN_BLANK] += mass[slot, ENDS_IN_SYMBOL]
                mass[slot, ENDS_IN_SYMBOL] = 0.0
            frame += 1
            continue
        if counts[NUM_NODES] + beam_size > nodes.shape[0]:
            counts[NUM_NODES] = compact(nodes, table, counts[NUM_NODES], beam, num_beam)
            if 2 * (counts[NUM_NODES] + beam_size) > nodes.shape[0]:
                return frame
        count, best = expand(
            p, active, num_active, space, nodes, beam, mass, num_beam, rows, row_states, taken, frame, threshold,
            stays, scores, ids, fusion,
        )  # fmt: skip
        if fusion[3][6][0, 0] > 0:  # the language model had to ask
            return frame
        count = select(scores, ids, count, best * threshold, beam_size)
        counts[HALF] = 1 - counts[HALF]
        new_beam, new_mass = beams[counts[HALF]], masses[counts[HALF]]
        counts[NUM_NODES] = commit(
            scores, ids, count, 1.0 / best, stays, nodes, table, counts[NUM_NODES],
            beam, mass, num_beam, new_beam, new_mass,
        )  # fmt: skip
        counts[NUM_BEAM] = count
        if fused:
            weigh(ids, count, nodes, beam, new_beam, rows, row_states, fusion)
        frame += 1
    return frame


@kernel("void(int32[:, ::1], int32[:, ::1], float64[:, ::1], float64[::1], boolean, " + FUSION + ")")
def rank(nodes: Array, beam: Array, masses: Array, ranks: Array, fused: bool, fusion: tuple[Any, ...]) -> None:
    """Write the logarithm of each prefix's weight as a whole text to `ranks`."""
    for slot in range(ranks.size):
        ranks[slot] = math.log(masses[slot, ENDS_IN_BLANK] + masses[slot, ENDS_IN_SYMBOL])
        if fused:
            ranks[slot] += finish_text(nodes, beam[slot, NODE], fusion)


def search_texts(
    probs: Matrix, floors: NDArray[np.float64], beam_size: int, threshold: float, fused: bool, fusion: Fusion
) -> Iterator[NDArray[np.int32]]:
    """Yield the classes of the texts that the search finds, best first; for the arguments see `search`."""
    arrays, num_classes = fusion(), probs.shape[1]
    nodes, table = empty_tree(16 * beam_size + 2048)
    beams, masses = np.zeros((2, beam_size, 3), np.int32), np.zeros((2, beam_size, 2))
    counts = np.array([1, 1, 0])
    scratch = (
        np.empty(num_classes),
        np.empty(num_classes, np.int32),
        np.full((beam_size, num_classes), -1, np.int32),
        np.empty((beam_size, 2)),
        np.empty(beam_size * num_classes),
        np.empty(beam_size * num_classes, np.int64),
    )
    rows, row_states = np.ones((beam_size if fused else 1, num_classes)), np.zeros((beam_size, 2), np.int32)
    nodes[0, STATE], masses[0, 0, ENDS_IN_BLANK] = arrays[1][START], 1.0
    frame = 0
    while True:
        frame = search(
            probs, floors, threshold, frame, counts, nodes, table, beams, masses, scratch, fused, rows, row_states,
            arrays,
        )  # fmt: skip
        num_nodes, num_beam, half = counts.tolist()
        beam = beams[half, :num_beam]
        if frame == len(probs):
            break
        arrays = fusion()
        if num_nodes + beam_size > len(nodes) // 2:
            nodes, table, counts[NUM_NODES] = grow(nodes, beam, num_nodes)
    ranks, room = np.empty(num_beam), np.empty(len(probs), np.int32)
    rank(nodes, beam, masses[half], ranks, fused, arrays)
    while arrays[3][6][0, 0] > 0:
        arrays = fusion()
        rank(nodes, beam, masses[half], ranks, fused, arrays)
    for slot in np.argsort(-ranks, kind="stable"):
        yield room[trace(nodes, beam[slot, NODE], room) :].copy()
