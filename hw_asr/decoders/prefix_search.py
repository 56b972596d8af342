"""CTC prefix beam search (Hannun et al. 2014, arXiv:1408.2873): the kernel and its memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.decoders.frames import GroupFrames, frames_of
from hw_asr.decoders.fusion import IN_USE, Rows, fill_row
from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.n_best import rank, spell_best
from hw_asr.decoders.prefix_beam import (
    ENDS_IN_BLANK,
    ENDS_IN_SYMBOL,
    LAST,
    NODE,
    ROW,
    Beam,
    Candidates,
    commit,
    weigh,
)
from hw_asr.decoders.prefix_step import Frame, choose_classes, expand, select
from hw_asr.decoders.prefix_tree import STATE, Tree, compact, empty_tree
from hw_asr.decoders.texts import Texts
from hw_asr.runtime.kernels import (
    Float64Cube,
    Float64Vector,
    Int32Cube,
    Int32Vector,
    Int64Vector,
    kernel,
)

UTTERANCE, FRAME, NUM_NODES, NUM_BEAM, HALF, CLOCK = range(6)
"""Columns of `Workspace.progress`: the next utterance and frame, nodes in the tree, prefixes in the beam, which half of
`slots` and `masses` is the current beam, and a number for every time a beam was expanded."""
NOT_STARTED = -1
"""A frame: the utterance has not begun."""


class Options(NamedTuple):
    """The arguments of a search; for their meaning see `BeamSearchDecoder`."""

    beam_size: int
    n_best: int
    floor: float
    """Smallest probability of a class; 0 for none."""
    threshold: float
    """Smallest probability of a prefix, relative to the best; 0 for none."""
    fused: bool
    """Whether language model or hotwords weigh the prefixes."""


class Workspace(NamedTuple):
    """The memory of a search, used for one utterance after the other."""

    progress: Int64Vector
    """(6,); see the names of its columns."""
    tree: Tree
    slots: Int32Cube
    """(2, W, 3)."""
    masses: Float64Cube
    """(2, W, 2)."""
    candidates: Candidates
    rows: Rows
    p: Float64Vector
    """(V,) probabilities of a frame."""
    active: Int32Vector
    """(V,)."""
    ranks: Float64Vector
    """(W,)."""


def make_workspace(options: Options, num_classes: int) -> Workspace:
    """Return the memory of a search."""
    beam_size = options.beam_size
    return Workspace(
        progress=np.array([0, NOT_STARTED, 0, 0, 0, 0]),
        tree=empty_tree(16 * beam_size + 2048),
        slots=np.zeros((2, beam_size, 3), np.int32),
        masses=np.zeros((2, beam_size, 2)),
        candidates=Candidates(
            scores=np.empty(beam_size * num_classes),
            ids=np.empty(beam_size * num_classes, np.int64),
            stays=np.empty((beam_size, 2)),
            taken=np.zeros((beam_size, num_classes), np.int64),
        ),
        rows=Rows(np.ones((beam_size if options.fused else 1, num_classes)), np.zeros((beam_size, 2), np.int32)),
        p=np.empty(num_classes),
        active=np.empty(num_classes, np.int32),
        ranks=np.empty(beam_size),
    )


@kernel
def search(group: GroupFrames, options: Options, work: Workspace, fusion: Fusion, texts: Texts) -> bool:
    """Find the texts of the utterances of a group, best first; return whether all are done.

    It stops before a frame, to be called again, when the tree is full or the language model has misses
    (see `lm.table`).
    """
    progress, tree, beam_size = work.progress, work.tree, work.slots.shape[1]
    space = fusion.space if fusion.has_model else -1
    while progress[UTTERANCE] < group.bounds.size - 1:
        frames = frames_of(group, progress[UTTERANCE])
        if progress[FRAME] == NOT_STARTED:
            progress[FRAME], progress[NUM_NODES], progress[NUM_BEAM], progress[HALF] = 0, 1, 1, 0
            work.slots[0, 0, NODE] = work.slots[0, 0, LAST] = work.slots[0, 0, ROW] = 0
            work.masses[0, 0, ENDS_IN_BLANK], work.masses[0, 0, ENDS_IN_SYMBOL] = 1.0, 0.0
            compact(tree, 1, work.slots[0], 1)  # leaves the empty prefix alone in the tree
            tree.nodes[0, STATE] = fusion.start_state
            if options.fused:
                for row in range(beam_size):
                    work.rows.states[row, IN_USE] = 0
                fill_row(tree.nodes, 0, work.rows, 0, fusion)
        while progress[FRAME] < frames.num_frames:
            frame, half, num_nodes = progress[FRAME], progress[HALF], progress[NUM_NODES]
            num_active = choose_classes(frames, frame, options.floor, space, work.p, work.active)
            beam = Beam(work.slots[half], work.masses[half], progress[NUM_BEAM])
            if num_active == 0 and (space < 0 or work.p[space] == 0.0):
                for slot in range(beam.size):
                    beam.masses[slot, ENDS_IN_BLANK] += beam.masses[slot, ENDS_IN_SYMBOL]
                    beam.masses[slot, ENDS_IN_SYMBOL] = 0.0
                progress[FRAME] += 1
                continue
            if num_nodes + beam_size > tree.nodes.shape[0]:
                num_nodes = compact(tree, num_nodes, beam.slots, beam.size)
                progress[NUM_NODES] = num_nodes
                if 2 * (num_nodes + beam_size) > tree.nodes.shape[0]:
                    return False
            progress[CLOCK] += 1
            now = Frame(work.p, work.active, num_active, space, progress[CLOCK], options.threshold)
            count, best = expand(now, tree, beam, work.candidates, work.rows, fusion)
            if fusion.ngrams.num_misses[0] > 0:
                return False
            count = select(work.candidates, count, best * options.threshold, beam_size)
            new_beam = Beam(work.slots[1 - half], work.masses[1 - half], count)
            progress[NUM_NODES] = commit(work.candidates, 1.0 / best, tree, num_nodes, beam, new_beam)
            progress[NUM_BEAM], progress[HALF] = count, 1 - half
            if options.fused:
                weigh(work.candidates, tree, beam, new_beam, work.rows, fusion)
            progress[FRAME] += 1
        last = Beam(work.slots[progress[HALF]], work.masses[progress[HALF]], progress[NUM_BEAM])
        rank(tree.nodes, last, options.fused, fusion, work.ranks)
        if fusion.ngrams.num_misses[0] > 0:
            return False
        spell_best(tree, last, work.ranks, fusion.space, texts, progress[UTTERANCE])
        progress[UTTERANCE] += 1
        progress[FRAME] = NOT_STARTED
    return True
