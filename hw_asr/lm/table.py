"""N-grams of all orders in one hash table, walked like an automaton.

**Misses.** The table of an ARPA file is complete. That of a KenLM binary holds only the n-grams that were looked up
before. A kernel that needs another one records it as a miss, a pair of state and word, and continues with a placeholder
value. Whoever called the kernel must then discard its result, let the language model fill the table
(`LanguageModel.fill_misses`) and run the kernel again.
"""

from __future__ import annotations

from typing import NamedTuple

from hw_asr.runtime.kernels import (
    Float32Vector,
    Int32Vector,
    Int64Matrix,
    Int64Vector,
    UInt64Vector,
)

NO_CONTEXT = -1
EMPTY = -1
UNRESOLVED = -2
"""In `NgramTable.shorter`: what the state backs off to is not in the table; a look-up that gets there is a miss."""


class NgramTable(NamedTuple):
    """A back-off model of N n-grams. Ids 0 .. words - 1 are the single words; a state is an n-gram id or NO_CONTEXT."""

    log_probs: Float32Vector
    """(N,) natural logarithms."""
    backoffs: Float32Vector
    """(N,) natural logarithms."""
    shorter: Int32Vector
    """(N,) the n-gram without its first word, -1 for a single word."""
    next_states: Int32Vector
    """(N,) the state after the n-gram."""
    keys: UInt64Vector
    """(size,) keys of the hash table, state and word; the size is a power of two."""
    values: Int32Vector
    """(size,) n-gram ids, EMPTY where the table is free."""
    misses: Int64Matrix
    """(M, 2) look-ups that failed, state and word each; M is 0 for a complete table."""
    num_misses: Int64Vector
    """(1,) how many rows of `misses` are used; above 0 the result of a kernel is not valid."""
