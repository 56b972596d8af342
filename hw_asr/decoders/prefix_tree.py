"""The tree of prefixes a beam search has seen, as flat arrays: nodes, a hash table over them, and its clean-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from hw_asr.jit import Array, kernel

PARENT, SYMBOL, SLOT, WORD, STATE, HOT = range(6)
"""Columns of a node: its parent or -1, the class that leads to it, its place in the beam or -1; and for language
models the node of the unfinished word in the word trie, the n-gram state before that word, the state of hotwords."""
COLUMNS = 6


@kernel("int64(int32[:, ::1], int32[::1], int64, int64, int64)")
def find_or_add(nodes: Array, table: Array, num_nodes: int, parent: int, symbol: int) -> int:
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
def compact(nodes: Array, table: Array, num_nodes: int, beam: Array, num_beam: int) -> int:
    """Drop the nodes that no prefix of the beam descends from, renumber the others and return how many are left.

    Later ids stay later, and no result changes: a dropped prefix that comes back has no descendants to meet.
    """
    new_ids = np.full(num_nodes, -1, np.int32)
    for slot in range(num_beam):
        node = beam[slot, 0]
        while node >= 0 and new_ids[node] < 0:
            new_ids[node] = 0
            node = nodes[node, PARENT]
    table[:] = -1
    count = 0
    for node in range(num_nodes):
        if new_ids[node] < 0:
            continue
        parent = nodes[node, PARENT]
        nodes[count] = nodes[node]
        if parent < 0:
            nodes[count, PARENT] = -1
        else:
            slot = nodes[count, SLOT]
            find_or_add(nodes, table, count, new_ids[parent], nodes[node, SYMBOL])
            nodes[count, SLOT] = slot
        new_ids[node] = count
        count += 1
    for slot in range(num_beam):
        beam[slot, 0] = new_ids[beam[slot, 0]]
    return count


@kernel("int64(int64)")
def hash_size(num_nodes: int) -> int:
    """Return the size of a table for so many nodes: a power of two, at most half full."""
    size = 16
    while size < 2 * num_nodes:
        size *= 2
    return size


@kernel("Tuple((int32[:, ::1], int32[::1]))(int32[:, ::1], int32[::1], int64)")
def grow(nodes: Array, table: Array, num_nodes: int) -> tuple[Any, ...]:
    """Return nodes and table with twice the room."""
    more_nodes = np.zeros((2 * nodes.shape[0], COLUMNS), np.int32)
    more_nodes[:num_nodes] = nodes[:num_nodes]
    more_table = np.full(2 * table.size, -1, np.int32)
    for node in range(1, num_nodes):
        find_or_add(more_nodes, more_table, node, nodes[node, PARENT], nodes[node, SYMBOL])
        more_nodes[node, SLOT] = nodes[node, SLOT]
    return more_nodes, more_table


@kernel("int64(int32[:, ::1], int64, int32[::1])")
def trace(nodes: Array, node: int, labels: Array) -> int:
    """Write the classes on the way from the root to `node` into `labels`, last class last; return where they begin."""
    begin = labels.size
    while nodes[node, PARENT] >= 0:
        begin -= 1
        labels[begin] = nodes[node, SYMBOL]
        node = nodes[node, PARENT]
    return begin
