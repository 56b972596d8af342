"""The words of a language model as a trie over the classes of an alphabet, each node with its best unigram below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 64
"""Words with more characters are left out."""
SPECIAL = ("<s>", "</s>", "<unk>", "<UNK>")


class Trie(NamedTuple):
    """Nodes in breadth-first order, node 0 the root; the children of node k are first[k] .. first[k + 1] - 1."""

    first: NDArray[np.int32]
    classes: NDArray[np.int32]
    words: NDArray[np.int32]
    """Id of the word that ends here, or -1."""
    best: NDArray[np.float32]
    """Largest log-probability of the words below; 0 at the root."""


def spellable(words: Sequence[str], alphabet: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which words consist of up to MAX_LENGTH characters of the alphabet, blank and space aside."""
    characters = frozenset(alphabet[1:]) - {" "}
    known = [characters.issuperset(word) and word not in SPECIAL and len(word) <= MAX_LENGTH for word in words]
    return np.array(known, np.bool_)


def build_trie(words: Sequence[str], log_probs: NDArray[np.float32], alphabet: Sequence[str]) -> Trie:
    """Build the trie of the words that the alphabet can spell."""
    ids = np.flatnonzero(spellable(words, alphabet))
    lengths = np.array([len(words[word]) for word in ids.tolist()], np.int64)
    rows = _spell([words[word] for word in ids.tolist()], lengths, alphabet)
    order = np.argsort(
        np.ascontiguousarray(rows).view(f"S{rows.dtype.itemsize * rows.shape[1]}").ravel(), kind="stable"
    )
    rows, ids, lengths = rows[order], ids[order], lengths[order]
    depths = np.arange(rows.shape[1])[:, None]
    differs = rows[1:] != rows[:-1]
    common = np.concatenate([[0], np.where(differs.any(axis=1), differs.argmax(axis=1), rows.shape[1])])
    starts = (common <= depths) & (lengths > depths)  # (depth, word): a node of that depth begins with this word
    nodes = np.cumsum(starts.ravel()).reshape(starts.shape)  # ids count on, depth after depth
    depth_of, word_of = np.nonzero(starts)
    parents = np.where(depth_of > 0, nodes[depth_of - 1, word_of], 0)
    num_nodes = 1 + len(parents)
    best = np.full(num_nodes, -np.inf, np.float32)
    for depth in range(rows.shape[1]):
        covered = lengths > depth
        np.maximum.at(best, nodes[depth, covered], log_probs[ids[covered]])
    best[0] = 0.0
    word_ids = np.full(num_nodes, -1, np.int32)
    word_ids[nodes[lengths - 1, np.arange(len(ids))]] = ids
    first = 1 + np.searchsorted(parents, np.arange(num_nodes + 1))
    classes = np.concatenate([[0], rows[word_of, depth_of]])
    return Trie(first.astype(np.int32), classes.astype(np.int32), word_ids, best)


def _spell(words: list[str], lengths: NDArray[np.int64], alphabet: Sequence[str]) -> NDArray[np.uint16]:
    """Return the classes of words as big-endian rows (N, longest), filled up with 0, which sort as the words do."""
    index = {ord(character): place for place, character in enumerate(alphabet) if place}
    classes = np.zeros(1 + max(index, default=0), np.uint16)
    classes[list(index)] = list(index.values())
    rows = np.zeros((len(words), max(1, int(lengths.max(initial=0)))), ">u2")
    points = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = classes[points]
    return rows
