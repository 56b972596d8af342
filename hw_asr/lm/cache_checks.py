"""Checks of a language model's cached arrays: afterwards no kernel can leave their bounds or run for ever."""

from __future__ import annotations

import math
import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
FORMATS = {
    "log_probs": "<f4",
    "backoffs": "<f4",
    "shorter": "<i4",
    "next_states": "<i4",
    "keys": "<u8",
    "values": "<i4",
    "trie_first": "<i4",
    "trie_classes": "<i4",
    "trie_words": "<i4",
    "trie_best": "<f4",
    "words": "|u1",
    "special": "<i4",
}
"""The vectors of a cache and their types."""
MAX_ORDER = 16


class InvalidCacheError(Exception):
    """A cache that is damaged, or was not written by this program."""


class Facts(NamedTuple):
    """What a cache holds besides arrays."""

    order: int
    num_words: int
    num_spellable: int
    mass: float
    """See `language_model.Overlap`."""


def mapped_arrays(data: mmap.mmap, layout: Any) -> Arrays:
    """Return the arrays at their places in `data`; `layout` maps their names to type, shape and offset."""
    require(isinstance(layout, dict) and set(layout) == set(FORMATS), "the arrays are not those of this version")
    arrays = {}
    for name, place in layout.items():
        require(isinstance(place, list) and len(place) == 3, f"{name}: damaged entry")
        dtype, shape, offset = place
        require(dtype == FORMATS[name], f"{name}: another type")
        require(isinstance(shape, list) and len(shape) == 1, f"{name}: not a vector")
        size = shape[0]
        for number in (size, offset):
            require(type(number) is int and 0 <= number <= len(data), f"{name}: damaged entry")
        require(offset % 8 == 0 and offset + size * np.dtype(dtype).itemsize <= len(data), f"{name}: outside the file")
        arrays[name] = np.frombuffer(data, np.dtype(dtype), size, offset)
    return arrays


def read_facts(facts: Any) -> Facts:
    """Return the facts of a header."""
    require(isinstance(facts, dict) and set(facts) == set(Facts._fields), "damaged facts")
    numbers = (facts["order"], facts["num_words"], facts["num_spellable"])
    require(all(type(number) is int and 0 <= number < 2**31 for number in numbers), "damaged facts")
    require(1 <= facts["order"] <= MAX_ORDER, "damaged facts")
    require(type(facts["mass"]) is float and math.isfinite(facts["mass"]), "damaged facts")
    return Facts(**facts)


def check_arrays(arrays: Arrays, num_classes: int) -> None:
    """Raise InvalidCacheError unless all indices are inside their arrays and all walks through them end."""
    size = len(arrays["log_probs"])
    require(size > 0, "no n-grams")
    for name in ("backoffs", "shorter", "next_states"):
        require(len(arrays[name]) == size, f"{name}: wrong length")
    for name in ("log_probs", "backoffs", "trie_best"):
        require(bool(np.isfinite(arrays[name]).all()), f"{name}: not finite")
    require(bool((arrays["log_probs"] <= 0).all()), "log_probs: positive")
    in_range("shorter", arrays["shorter"], -1, size)
    require(bool((arrays["shorter"] < np.arange(size)).all()), "shorter: a circle")
    in_range("next_states", arrays["next_states"], -1, size)
    keys, values = arrays["keys"], arrays["values"]
    require(len(keys) == len(values) and len(keys) > 1 and not len(keys) & (len(keys) - 1), "keys: wrong length")
    in_range("values", values, -1, size)
    require(4 * np.count_nonzero(values == -1) >= len(values), "values: the hash table is too full")
    num_words = _check_words(arrays["words"], size)
    require(len(arrays["special"]) == 3, "special: wrong length")
    in_range("special", arrays["special"], 0, size)
    _check_trie(arrays, num_classes, num_words)


def _check_words(words: NDArray[np.uint8], size: int) -> int:
    try:
        num_words = words.tobytes().decode().count("\n") + 1
    except UnicodeDecodeError as error:
        raise InvalidCacheError("words: not UTF-8") from error
    require(num_words <= size, "words: more than n-grams")
    return num_words


def _check_trie(arrays: Arrays, num_classes: int, num_words: int) -> None:
    first, classes, words = arrays["trie_first"], arrays["trie_classes"], arrays["trie_words"]
    num_nodes = len(classes)
    require(num_nodes > 0 and len(words) == len(arrays["trie_best"]) == num_nodes, "trie: wrong length")
    require(len(first) == num_nodes + 1 and int(first[-1]) == num_nodes, "trie_first: wrong length")
    in_range("trie_first", first, 1, num_nodes + 1)
    require(bool((first[1:] >= first[:-1]).all()), "trie_first: not sorted")
    require(bool((first[:-1] > np.arange(num_nodes)).all()), "trie_first: a circle")
    in_range("trie_classes", classes, 0, num_classes)
    in_range("trie_words", words, -1, num_words)
    require(bool((words >= 0).any()), "trie_words: none")


def in_range(name: str, array: NDArray[Any], low: int, high: int) -> None:
    """Raise InvalidCacheError unless low <= array < high."""
    if len(array):
        require(low <= int(array.min()) and int(array.max()) < high, f"{name}: out of range")


def require(condition: bool, fault: str) -> None:
    """Raise InvalidCacheError with `fault` unless the condition holds."""
    if not condition:
        raise InvalidCacheError(fault)
