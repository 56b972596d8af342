"""N-grams as rows of word ids: their order, and sorting more of them than fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def row_type(num_words: int, **fields: str) -> np.dtype[Any]:
    """Return the type of a row: `words`, `num_words` ids, and further fields by name and numpy type."""
    return np.dtype([("words", "<u4", (num_words,)), *fields.items()])


def suffix_order(words: Array, num_types: int) -> Array:
    """Return the permutation that sorts n-grams `words` (R, n) by last word, then the one before it, and so on.

    Ids are below `num_types`. This is the suffix order of Heafield et al. 2013: n-grams that share their last words
    become adjacent, for every number of words at once.
    """
    keys = _packed(words, num_types)
    order: Array = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])
    return order


def group_starts(words: Array) -> Array:
    """Return the index of the first row of each run of equal rows of `words` (R, n)."""
    if len(words) == 0:
        return np.zeros(0, dtype=np.int64)
    different = np.zeros(len(words), dtype=bool)
    different[0] = True
    for column in words.T:
        different[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(different)


def _packed(words: Array, num_types: int) -> list[Array]:
    bits = max(int(num_types - 1).bit_length(), 1)
    columns = list(words.T[::-1])
    keys: list[Array] = []
    for start in range(0, len(columns), 64 // bits):
        key = np.zeros(len(words), dtype=np.uint64)
        for column in columns[start : start + 64 // bits]:
            key = (key << np.uint64(bits)) | column
        keys.append(key)
    return keys


class Buckets:
    """Rows on disk, one file per range of word ids.

    Bucket k holds the rows whose deciding word is in [bounds[k], bounds[k + 1]). Rows that must meet share that
    word, so each bucket can be worked on by itself, and sorted buckets one after another are sorted as a whole:
    a distribution sort that needs memory for one bucket.
    """

    def __init__(self, directory: Path, name: str, dtype: np.dtype[Any], bounds: Array) -> None:
        self._paths = [directory / f"{name}.{index}" for index in range(len(bounds) - 1)]
        self._dtype = dtype
        self._bounds = bounds

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, rows: Array, deciding: Array) -> None:
        """Append `rows` (R,), the deciding word of each being `deciding` (R,); equal buckets keep their order."""
        if len(self._paths) > 1:
            bucket = np.searchsorted(self._bounds, deciding, side="right") - 1
            order = np.argsort(bucket, kind="stable")
            rows, ends = rows[order], np.cumsum(np.bincount(bucket, minlength=len(self._paths)))
        else:
            ends = np.array([len(rows)])
        start = 0
        for path, end in zip(self._paths, ends, strict=True):
            if end > start:
                with path.open("ab") as file:
                    rows[start:end].tofile(file)
            start = end

    def take(self, index: int) -> Array:
        """Return the rows of a bucket and forget them."""
        path = self._paths[index]
        if not path.exists():
            return np.zeros(0, dtype=self._dtype)
        rows = np.fromfile(path, dtype=self._dtype)
        path.unlink()
        return rows


def bucket_bounds(weights: Array, rows_in_memory: int) -> Array:
    """Cut the word ids into ranges of at most `rows_in_memory` rows; `weights` (V,) says how many each word has.

    A single word that has more gets a range of its own. Returns (number of ranges + 1,) ids, from 0 to V.
    """
    total = np.cumsum(weights)
    bounds = [0]
    while bounds[-1] < len(weights):
        before = total[bounds[-1] - 1] if bounds[-1] else 0
        end = int(np.searchsorted(total, before + rows_in_memory, side="right"))
        bounds.append(max(end, bounds[-1] + 1))
    return np.array(bounds, dtype=np.int64)
