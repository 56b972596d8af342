"""The tree of prefixes a beam search has seen, as flat arrays: nodes, a hash table, garbage collection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.runtime.kernels import Int32Matrix, Int32Vector, inner_kernel, kernel

PARENT, SYMBOL, SLOT, WORD, STATE, HOT, NEW_ID = range(7)
"""Columns of a node: its parent or -1, the class that leads to it, its slot in the beam or -1; for language models the
trie node of the unfinished word, the n-gram state before that word, the state of the hotwords; scratch of `compact`."""
COLUMNS = 7


class Tree(NamedTuple):
    """Prefixes as nodes of a tree; node 0 is the empty prefix."""

    nodes: Int32Matrix
    """(N, COLUMNS); see the names of the columns."""
    table: Int32Vector
    """(size,) a hash table of node ids with linear probing, -1 where it is free; the size is a power of two."""


@inner_kernel
def find_or_add(tree: Tree, num_nodes: int, parent: int, symbol: int) -> int:
    """Return the child of `parent` by `symbol`; it is `num_nodes` when it was added."""
    nodes, table = tree.nodes, tree.table
    mask = table.size - 1
    place = (parent * 1000003 + symbol * 7919) * 40503 & mask
    place ^= place >> 7
    while True:
        node = table[place]
        if node < 0:
            break
        if nodes[node, PARENT] == parent and nodes[node, SYMBOL] == symbol:
            child: int = node
            return child
        place = (place + 1) & mask
    table[place] = num_nodes
    nodes[num_nodes, PARENT] = parent
    nodes[num_nodes, SYMBOL] = symbol
    nodes[num_nodes, SLOT] = -1
    return num_nodes


@kernel
def compact(tree: Tree, num_nodes: int, slots: Int32Matrix, num_beam: int) -> int:
    """Drop the nodes that no prefix of the beam descends from, renumber the others and return how many remain.

    slots (W, ...) has the nodes of the beam in its first column. The order of ids stays, and no result changes: a
    dropped prefix that is found again has no descendants in the beam.
    """
    nodes, table = tree.nodes, tree.table
    for node in range(num_nodes):
        nodes[node, NEW_ID] = -1
    for slot in range(num_beam):
        ancestor = slots[slot, 0]
        while ancestor >= 0 and nodes[ancestor, NEW_ID] < 0:
            nodes[ancestor, NEW_ID] = 0
            ancestor = nodes[ancestor, PARENT]
    for place in range(table.size):
        table[place] = -1
    count = 0
    for node in range(num_nodes):
        if nodes[node, NEW_ID] < 0:
            continue
        nodes[node, NEW_ID] = count
        for column in range(NEW_ID):
            nodes[count, column] = nodes[node, column]
        if count > 0:
            slot_of_node = nodes[node, SLOT]
            find_or_add(tree, count, nodes[nodes[node, PARENT], NEW_ID], nodes[node, SYMBOL])
            nodes[count, SLOT] = slot_of_node
        count += 1
    for slot in range(num_beam):
        slots[slot, 0] = nodes[slots[slot, 0], NEW_ID]
    return count


def empty_tree(num_nodes: int) -> Tree:
    """Return a tree with room for `num_nodes`, holding the empty prefix, and a hash table that is at most half full."""
    nodes = np.zeros((num_nodes, COLUMNS), np.int32)
    nodes[0, PARENT] = -1
    return Tree(nodes, np.full(1 << (2 * num_nodes - 1).bit_length(), -1, np.int32))


def enlarged(tree: Tree, num_nodes: int, slots: Int32Matrix) -> tuple[Tree, int]:
    """Return a tree with twice the room and the nodes that the beam needs, and their number; see `compact`."""
    larger = empty_tree(2 * len(tree.nodes))
    larger.nodes[:num_nodes] = tree.nodes[:num_nodes]
    return larger, compact(larger, num_nodes, slots, len(slots))
