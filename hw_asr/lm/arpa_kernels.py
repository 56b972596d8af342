"""The kernels that read ARPA files: tokens, numbers, the vocabulary's hash table, sections, links between n-grams."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hw_asr.lm.table_filling import insert
from hw_asr.lm.table_kernels import find
from hw_asr.runtime.kernels import (
    Float32Vector,
    Int8Vector,
    Int32Matrix,
    Int32Vector,
    Int64Matrix,
    UInt8Vector,
    UInt64Vector,
    inner_kernel,
    kernel,
)

GOOD, SHORT_LINE, BAD_NUMBER, POSITIVE, UNKNOWN_WORD, REPEATED_WORD, TOO_FEW, TOO_MANY = range(8)
"""How a section can end."""
LN_10 = 2.302585092994046
LARGEST = 1000.0
"""Decimal logarithms are clipped to this size: -inf becomes a number that can be added and subtracted."""


class Vocabulary(NamedTuple):
    """The words of the 1-grams: a hash table of ids, and where each word is in the file."""

    table: Int32Vector
    """(size,) word ids, -1 where it is free; the size is a power of two."""
    spans: Int64Matrix
    """(words, 2) offset and length in bytes."""


class Section(NamedTuple):
    """The N n-grams of one order; logarithms are natural."""

    ids: Int32Matrix
    """(N, order) word ids."""
    log_probs: Float32Vector
    backoffs: Float32Vector


class Links(NamedTuple):
    """What `link` fills in: `keys` and `values` of `NgramTable`, `shorter`, and whether a longer n-gram exists."""

    keys: UInt64Vector
    values: Int32Vector
    shorter: Int32Vector
    continued: Int8Vector


@inner_kernel
def _token(data: UInt8Vector, begin: int) -> tuple[int, int]:
    """Return where the next token of the line begins and ends; it is empty at the end of the line."""
    while begin < data.size and (data[begin] == 32 or data[begin] == 9 or data[begin] == 13):
        begin += 1
    end = begin
    while end < data.size and data[end] > 32:
        end += 1
    return begin, end


@inner_kernel
def _number(data: UInt8Vector, begin: int, end: int) -> float:
    """Read a decimal number or `inf`; NaN when it is neither."""
    sign, digits, exponent, seen, point = 1.0, 0.0, 0, 0, 0
    if begin < end and (data[begin] == 45 or data[begin] == 43):
        sign = -1.0 if data[begin] == 45 else 1.0
        begin += 1
    if end - begin == 3 and data[begin] | 32 == 105 and data[begin + 1] | 32 == 110 and data[begin + 2] | 32 == 102:
        return sign * np.inf
    while begin < end and (48 <= data[begin] <= 57 or (data[begin] == 46 and point == 0)):
        if data[begin] == 46:
            point = 1
        else:
            digits = digits * 10.0 + (data[begin] - 48)
            exponent -= point
            seen += 1
        begin += 1
    if begin < end - 1 and (data[begin] == 101 or data[begin] == 69):
        begin += 1
        shift, direction = 0, 1
        if data[begin] == 45 or data[begin] == 43:
            direction = -1 if data[begin] == 45 else 1
            begin += 1
        while begin < end and 48 <= data[begin] <= 57:
            shift = shift * 10 + (data[begin] - 48)
            begin += 1
        exponent += direction * shift
    if begin < end or seen == 0:
        return np.nan
    return sign * digits * 10.0**exponent


@inner_kernel
def _place(data: UInt8Vector, begin: int, end: int, vocabulary: Vocabulary) -> int:
    """Return the place of a word in the hash table, or the free place where it would be added."""
    table, spans = vocabulary.table, vocabulary.spans
    code = np.uint64(14695981039346656037)  # FNV-1a
    for position in range(begin, end):
        code = (code ^ np.uint64(data[position])) * np.uint64(1099511628211)
    place: Any = np.int64((code ^ (code >> np.uint64(32))) & np.uint64(table.size - 1))
    while table[place] >= 0:
        other, length = spans[table[place], 0], spans[table[place], 1]
        if length == end - begin:
            same = 0
            while same < length and data[begin + same] == data[other + same]:
                same += 1
            if same == length:
                break
        place = (place + 1) & (table.size - 1)
    found: int = place
    return found


@kernel
def read_section(data: UInt8Vector, position: int, vocabulary: Vocabulary, section: Section) -> tuple[int, int, int]:
    """Read the lines of a section from `position` on.

    Returns the position where it ended, the number of n-grams and how it ended. 1-grams are added to `vocabulary`.
    """
    ids, log_probs, backoffs = section.ids, section.log_probs, section.backoffs
    table, spans = vocabulary.table, vocabulary.spans
    count, order = 0, ids.shape[1]
    while position < data.size:
        begin, end = _token(data, position)
        if begin == end:
            position = end + 1
            continue
        if data[begin] == 92:  # a backslash begins the next section
            break
        if count == ids.shape[0]:
            return begin, count, TOO_MANY
        log_prob = _number(data, begin, end)
        if np.isnan(log_prob):
            return begin, count, BAD_NUMBER
        if log_prob > 0.0:
            return begin, count, POSITIVE
        log_probs[count] = max(log_prob, -LARGEST) * LN_10
        for place in range(order):
            begin, end = _token(data, end)
            if begin == end:
                return begin, count, SHORT_LINE
            slot = _place(data, begin, end, vocabulary)
            if order == 1:
                if table[slot] >= 0:
                    return begin, count, REPEATED_WORD
                table[slot] = count
                spans[count, 0], spans[count, 1] = begin, end - begin
            elif table[slot] < 0:
                return begin, count, UNKNOWN_WORD
            ids[count, place] = table[slot]
        begin, end = _token(data, end)
        backoffs[count] = 0.0
        if begin < end:
            backoff = _number(data, begin, end)
            if np.isnan(backoff):
                return begin, count, BAD_NUMBER
            backoffs[count] = min(max(backoff, -LARGEST), LARGEST) * LN_10
        count += 1
        position = end
        while position < data.size and data[position] != 10:
            position += 1
    return position, count, GOOD if count == ids.shape[0] else TOO_FEW


@kernel
def link(ids: Int32Matrix, first: int, links: Links) -> int:
    """Enter n-grams (N, order), which get the ids from `first` on, and link each to the one without its first word.

    Returns the row of the first n-gram whose context is not an n-gram itself, or -1.
    """
    keys, values, shorter, continued = links.keys, links.values, links.shorter, links.continued
    for row in range(ids.shape[0]):
        context = ids[row, 0]
        for place in range(1, ids.shape[1] - 1):
            context = find(keys, values, context, ids[row, place])
            if context < 0:
                return row
        word = ids[row, ids.shape[1] - 1]
        insert(keys, values, context, word, first + row)
        continued[context] = 1
        suffix = -1
        context = shorter[context]
        while context >= 0 and suffix < 0:
            suffix = find(keys, values, context, word)
            context = shorter[context]
        shorter[first + row] = suffix if suffix >= 0 else word
    return -1


@kernel
def choose_states(
    backoffs: Float32Vector, shorter: Int32Vector, continued: Int8Vector, next_states: Int32Vector
) -> None:
    """Write the state after each n-gram: the longest of it and its endings that can make a difference later, or -1."""
    for ngram in range(backoffs.size):
        if continued[ngram] or backoffs[ngram] != 0.0:
            next_states[ngram] = ngram
        else:
            next_states[ngram] = next_states[shorter[ngram]] if shorter[ngram] >= 0 else -1
