"""From the last beam of an utterance to its n-best texts and their scores: the kernels."""

from __future__ import annotations

import math

import numpy as np

from hw_asr.decoders.fusion import finish_text
from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.prefix_beam import ENDS_IN_BLANK, ENDS_IN_SYMBOL, NODE, Beam
from hw_asr.decoders.prefix_tree import PARENT, SYMBOL, Tree
from hw_asr.decoders.texts import Texts
from hw_asr.runtime.kernels import (
    Float64Vector,
    Int32Matrix,
    inner_kernel,
)

NUM_EXTRA = 16
"""How many texts with outer spaces may be candidates in addition to the n-best."""


@inner_kernel
def rank(nodes: Int32Matrix, beam: Beam, fused: bool, fusion: Fusion, ranks: Float64Vector) -> None:
    """Write the logarithm of each prefix's weight as a whole text to ranks (W,)."""
    for slot in range(beam.size):
        ranks[slot] = math.log(beam.masses[slot, ENDS_IN_BLANK] + beam.masses[slot, ENDS_IN_SYMBOL])
        if fused:
            ranks[slot] += finish_text(nodes, beam.slots[slot, NODE], fusion)


@inner_kernel
def spell(tree: Tree, node: int, space: int, texts: Texts, text: int) -> bool:
    """Write the classes on the way from the root to `node` as a text, without the spaces at either end.

    Returns whether there were no such spaces.
    """
    nodes, certain = tree.nodes, True
    while nodes[node, PARENT] >= 0 and nodes[node, SYMBOL] == space:
        node = nodes[node, PARENT]
        certain = False
    length, ancestor = 0, node
    while nodes[ancestor, PARENT] >= 0:
        length += 1
        ancestor = nodes[ancestor, PARENT]
    begin, ancestor = texts.used[0], node
    texts.used[0] = texts.spans[text, 1] = begin + length
    place = begin + length
    while place > begin:
        place -= 1
        texts.labels[place] = nodes[ancestor, SYMBOL]
        ancestor = nodes[ancestor, PARENT]
    while begin < texts.used[0] and texts.labels[begin] == space:
        begin += 1
        certain = False
    texts.spans[text, 0] = begin
    return certain


@inner_kernel
def spell_best(tree: Tree, beam: Beam, ranks: Float64Vector, space: int, texts: Texts, utterance: int) -> None:
    """Write the best-ranked texts of an utterance.

    The rank of a prefix with outer spaces is not that of its text, which may be worse: up to NUM_EXTRA such texts are
    candidates in addition to the n-best that are certain.
    """
    room = texts.scores.shape[1]
    count, num_certain, n_best = 0, 0, room - NUM_EXTRA
    for _ in range(beam.size):
        if num_certain == n_best:
            break
        best = 0
        for slot in range(1, beam.size):
            if ranks[slot] > ranks[best]:
                best = slot
        ranks[best] = -np.inf
        before = texts.used[0]
        certain = spell(tree, beam.slots[best, NODE], space, texts, utterance * room + count)
        if certain or count - num_certain < NUM_EXTRA:
            num_certain += int(certain)
            count += 1
        else:
            texts.used[0] = before
    texts.counts[utterance] = count
