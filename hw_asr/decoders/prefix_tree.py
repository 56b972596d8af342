"""The tree of prefixes a beam search has seen, as flat arrays: nodes, a hash table over them, and its clean-up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_asr.runtime.kernels import Array, Scalar, kernel

PARENT, SYMBOL, SLOT, WORD, STATE, HOT, NEW_ID = range(7)
"""Columns of a node: its parent or -1, the class that leads to it, its place in the beam or -1; and for language
models the node of the unfinished word in the word trie, the n-gram state before that word, the state of hotwords; and
room for the clean-up."""
COLUMNS = 7


@kernel("int64(int32[:, ::1], int32[::1], int64, int64, int64)", inner=True)
def find_or_add(nodes: Array, table: Array, num_nodes: int, parent: int, symbol: int) -> Scalar:
    """Return the child of `parent` by `symbol`; it is `num_nodes` when it had to be added.

    `table` is a hash table of node ids with linear probing, its size a power of two, -1 where it is free.
    """
    mask = table.size - 1
    place = (parent * 1000003 + symbol * 7919) * 40503 & mask
    place ^= place >> 7
    while True:
        node = table[place]
        if node < 0:
            break
        if nodes[node, PARENT] == parent and nodes[node, SYMBOL] == symbol:
            return node
        place = (place + 1) & mask
    table[place] = num_nodes
    nodes[num_nodes, PARENT] = parent
    nodes[num_nodes, SYMBOL] = symbol
    nodes[num_nodes, SLOT] = -1
    return num_nodes


@kernel("int64(int32[:, ::1], int32[::1], int64, int32[:, ::1], int64)")
def compact(nodes: Array, table: Array, num_nodes: int, beam: Array, num_beam: int) -> Scalar:
    """Drop the nodes that no prefix of the beam descends from, renumber the others and return how many are left.

    Later ids stay later, and no result changes: a dropped prefix that comes back has no descendants to meet.
    """
    for node in range(num_nodes):
        nodes[node, NEW_ID] = -1
    for slot in range(num_beam):
        node = beam[slot, 0]
        while node >= 0 and nodes[node, NEW_ID] < 0:
            nodes[node, NEW_ID] = 0
            node = nodes[node, PARENT]
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
            slot = nodes[node, SLOT]
            find_or_add(nodes, table, count, nodes[nodes[node, PARENT], NEW_ID], nodes[node, SYMBOL])
            nodes[count, SLOT] = slot
        count += 1
    for slot in range(num_beam):
        beam[slot, 0] = nodes[beam[slot, 0], NEW_ID]
    return count


@kernel("int64(int32[:, ::1], int64, int32[::1])")
def trace(nodes: Array, node: int, labels: Array) -> Scalar:
    """Write the classes on the way from the root to `node` into `labels`, last class last; return where they begin."""
    begin = labels.size
    while nodes[node, PARENT] >= 0:
        begin -= 1
        labels[begin] = nodes[node, SYMBOL]
        node = nodes[node, PARENT]
    return begin


def empty_tree(num_nodes: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return room for so many nodes, the root made, and a hash table that they fill by half at most."""
    nodes = np.zeros((num_nodes, COLUMNS), np.int32)
    nodes[0, PARENT] = -1
    return nodes, np.full(1 << (2 * num_nodes - 1).bit_length(), -1, np.int32)


def grow(nodes: NDArray[np.int32], beam: NDArray[np.int32], num_nodes: int) -> tuple[Array, Array, int]:
    """Return nodes and table with twice the room, and how many nodes are used."""
    more_nodes, table = empty_tree(2 * len(nodes))
    more_nodes[:num_nodes] = nodes[:num_nodes]
    return more_nodes, table, compact(more_nodes, table, num_nodes, beam, len(beam))
