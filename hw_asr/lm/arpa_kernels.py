"""The kernels that read ARPA files: tokens, numbers, the vocabulary's hash table, sections, links between n-grams."""

from __future__ import annotations

import numpy as np

from hw_asr.lm.table import find, insert
from hw_asr.runtime.kernels import Array, Scalar, kernel

GOOD, SHORT_LINE, BAD_NUMBER, UNKNOWN_WORD, REPEATED_WORD, TOO_FEW, TOO_MANY = range(7)
"""How a section can end."""
LN_10 = 2.302585092994046


@kernel("Tuple((int64, int64))(uint8[::1], int64)", inner=True)
def _token(data: Array, begin: int) -> tuple[Scalar, Scalar]:
    """Return where the next token of the line begins and ends; it is empty at the end of the line."""
    while begin < data.size and (data[begin] == 32 or data[begin] == 9 or data[begin] == 13):
        begin += 1
    end = begin
    while end < data.size and data[end] > 32:
        end += 1
    return begin, end


@kernel("float64(uint8[::1], int64, int64)", inner=True)
def _number(data: Array, begin: int, end: int) -> Scalar:
    """Read a decimal number; NaN when it is none."""
    sign, digits, exponent, seen, point = 1.0, 0.0, 0, 0, 0
    if begin < end and (data[begin] == 45 or data[begin] == 43):
        sign = -1.0 if data[begin] == 45 else 1.0
        begin += 1
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


@kernel("int64(uint8[::1], int64, int64, int32[::1], int64[:, ::1])", inner=True)
def _place(data: Array, begin: int, end: int, table: Array, spans: Array) -> Scalar:
    """Return where a word stands in the hash table, or the free place where it would."""
    code = np.uint64(14695981039346656037)  # FNV-1a
    for position in range(begin, end):
        code = (code ^ np.uint64(data[position])) * np.uint64(1099511628211)
    place = np.int64((code ^ (code >> np.uint64(32))) & np.uint64(table.size - 1))
    while table[place] >= 0:
        other, length = spans[table[place], 0], spans[table[place], 1]
        if length == end - begin:
            same = 0
            while same < length and data[begin + same] == data[other + same]:
                same += 1
            if same == length:
                break
        place = (place + 1) & (table.size - 1)
    return place


@kernel(
    "Tuple((int64, int64, int64))(uint8[::1], int64, int32[::1], int64[:, ::1], int32[:, ::1], float32[::1], "
    "float32[::1])"
)
def read_section(
    data: Array, position: int, table: Array, spans: Array, ids: Array, log_probs: Array, backoffs: Array
) -> tuple[Scalar, Scalar, Scalar]:
    """Read the lines of a section from `position` on into ids (N, order), log_probs (N,) and backoffs (N,), in nats.

    Returns where it ended, how many n-grams it has and how it ended. Single words enter the vocabulary: `spans` (words,
    2) are offset and length, `table` is a hash table of ids.
    """
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
        log_probs[count] = _number(data, begin, end) * LN_10
        if np.isnan(log_probs[count]):
            return begin, count, BAD_NUMBER
        for place in range(order):
            begin, end = _token(data, end)
            if begin == end:
                return begin, count, SHORT_LINE
            slot = _place(data, begin, end, table, spans)
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
            backoffs[count] = _number(data, begin, end) * LN_10
            if np.isnan(backoffs[count]):
                return begin, count, BAD_NUMBER
        count += 1
        position = end
        while position < data.size and data[position] != 10:
            position += 1
    return position, count, GOOD if count == ids.shape[0] else TOO_FEW


@kernel("int64(int32[:, ::1], int64, uint64[::1], int32[::1], int32[::1], int8[::1])")
def link(ids: Array, first: int, keys: Array, values: Array, shorter: Array, continued: Array) -> Scalar:
    """Enter n-grams (N, order), which get the ids from `first` on, and link each to the one without its first word.

    Returns the first of which the context is not an n-gram itself, or -1.
    """
    for row in range(ids.shape[0]):
        context = np.int64(ids[row, 0])
        for place in range(1, ids.shape[1] - 1):
            context = find(keys, values, context, ids[row, place])
            if context < 0:
                return row
        word = ids[row, ids.shape[1] - 1]
        insert(keys, values, context, word, first + row)
        continued[context] = 1
        suffix = np.int64(-1)
        context = np.int64(shorter[context])
        while context >= 0 and suffix < 0:
            suffix = find(keys, values, context, word)
            context = np.int64(shorter[context])
        shorter[first + row] = suffix if suffix >= 0 else word
    return np.int64(-1)


@kernel("void(float32[::1], int32[::1], int8[::1], int32[::1])")
def choose_states(backoffs: Array, shorter: Array, continued: Array, next_states: Array) -> None:
    """Write the state after each n-gram: the longest of it and its endings that can make a difference later, or -1."""
    for ngram in range(backoffs.size):
        if continued[ngram] or backoffs[ngram] != 0.0:
            next_states[ngram] = ngram
        else:
            next_states[ngram] = next_states[shorter[ngram]] if shorter[ngram] >= 0 else -1
