"""Counting n-grams: text to word ids, windows of them to sorted counts, those to Kneser-Ney's adjusted counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.lm.estimation.sorting import Array, Buckets, group_starts, row_type, suffix_order
from hw_asr.text.normalize import normalize

UNKNOWN, SENTENCE_START, SENTENCE_END = 0, 1, 2
SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
_REMEMBERED = 500_000
"""Distinct raw words whose ids are kept in memory while reading."""
_FLUSHED = 1 << 20
"""Word ids collected before they go to disk."""


class NgramError(UserError):
    """A text, or the counts in it, from which no language model can be made."""


class TokenFile(NamedTuple):
    """A text as ids on disk (uint32): the words of each sentence, then SENTENCE_END."""

    path: Path
    words: list[str]
    """The word of each id, the special ones first."""
    counts: Array
    """(V,) occurrences of each word."""

    @property
    def num_tokens(self) -> int:
        """Number of ids in the file."""
        return int(self.counts.sum())


def write_tokens(lines: Iterable[str], alphabet: Collection[str], path: Path) -> TokenFile:
    """Normalise `lines`, a sentence each, and write their word ids to `path`; empty sentences are left out.

    Raises NgramError when no words remain, or one of them has a meaning of its own (<s>).
    """
    reader = _Reader(alphabet)
    with path.open("wb") as file, tqdm(unit="word", unit_scale=True, desc="reading", delay=1, disable=None) as progress:
        ids: list[int] = []
        for line in lines:
            sentence = reader.ids(line)
            if sentence:
                ids += sentence
                ids.append(SENTENCE_END)
            if len(ids) >= _FLUSHED:
                reader.flush(ids, file)
                progress.update(len(ids))
                ids = []
        reader.flush(ids, file)
        progress.update(len(ids))
    if not reader.counts[SENTENCE_END]:
        raise NgramError(
            f"the text has no words over the alphabet {''.join(sorted(alphabet))!r}; is it written in another script?"
        )
    return TokenFile(path, list(reader.vocabulary), reader.counts)


class _Reader:
    """Word ids in the order of first appearance, and how often each was written."""

    def __init__(self, alphabet: Collection[str]) -> None:
        self._alphabet = frozenset(alphabet)
        self._remembered: dict[str, list[int]] = {}
        self.vocabulary = {word: index for index, word in enumerate(SPECIAL_WORDS)}
        self.counts: Array = np.zeros(len(SPECIAL_WORDS), dtype=np.int64)

    def ids(self, line: str) -> list[int]:
        """Return the ids of a sentence; normalising word by word equals normalising the line, and can be cached."""
        remembered = self._remembered
        result: list[int] = []
        for raw in line.split():
            found = remembered.get(raw)
            if found is None:
                found = self._learn(raw)
            result += found
        return result

    def _learn(self, raw: str) -> list[int]:
        words = normalize(raw, self._alphabet).split()
        for word in words:
            if word in SPECIAL_WORDS:
                raise NgramError(f"the text contains {word!r}, a word that language models reserve; remove it")
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        ids = [self.vocabulary.setdefault(word, len(self.vocabulary)) for word in words]
        self._remembered[raw] = ids
        return ids

    def flush(self, ids: list[int], file: IO[bytes]) -> None:
        """Write ids out and count them."""
        array = np.array(ids, dtype=np.uint32)
        counts: Array = np.bincount(array, minlength=len(self.vocabulary))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        array.tofile(file)


def windows(tokens: TokenFile, order: int, rows_in_memory: int) -> Iterator[Array]:
    """Yield blocks (R, order) of every word with the words before it; before a sentence there are only <s>."""
    before: Array = np.full(order - 1, SENTENCE_END, dtype=np.uint32)
    with tokens.path.open("rb") as file:
        while len(block := np.fromfile(file, dtype=np.uint32, count=rows_in_memory)):
            joined = np.concatenate([before, block])
            rows = np.empty((len(block), order), dtype=np.uint32)
            rows[:, -1] = block
            over = np.zeros(len(block), dtype=bool)
            for back in range(1, order):
                word = joined[order - 1 - back : len(joined) - back]
                over |= word == SENTENCE_END
                rows[:, -1 - back] = np.where(over, SENTENCE_START, word)
            yield rows
            before = joined[len(joined) - (order - 1) :]


def count_ngrams(tokens: TokenFile, order: int, directory: Path, bounds: Array, rows_in_memory: int) -> Buckets:
    """Count the n-grams of one order into buckets by last word; equal ones of different blocks are not yet merged."""
    dtype = row_type(order, count="<i8")
    buckets = Buckets(directory, "counted", dtype, bounds)
    with tqdm(
        total=tokens.num_tokens, unit="word", unit_scale=True, desc="counting", delay=1, disable=None
    ) as progress:
        for block in windows(tokens, order, rows_in_memory):
            rows = np.empty(len(block), dtype=dtype)
            rows["words"], rows["count"] = block, 1
            rows = merge_counts(rows, len(tokens.words))
            buckets.add(rows, rows["words"][:, -1])
            progress.update(len(block))
    return buckets


def merge_counts(rows: Array, num_types: int) -> Array:
    """Sort rows (`words`, `count`) in suffix order and add up the counts of equal n-grams."""
    if len(rows) == 0:
        return rows
    rows = rows[suffix_order(rows["words"], num_types)]
    starts = group_starts(rows["words"])
    merged = rows[starts]
    merged["count"] = np.add.reduceat(rows["count"], starts)
    return merged


class Adjusted(NamedTuple):
    """The n-grams of one order, in suffix order."""

    words: Array
    """(R, n) ids."""
    occurrences: Array
    """(R,) how often each occurs."""
    counts: Array
    """(R,) adjusted counts: occurrences for the highest order and after <s>, else the number of words before it."""


def adjust_counts(rows: Array) -> Iterator[Adjusted]:
    """Yield the n-grams of every order, highest first, of which `rows` are the highest, counted, in suffix order.

    `rows` must hold all n-grams that share a last word. Kneser and Ney 1995; windows that begin before their
    sentence carry the counts of shorter n-grams that start with <s> and are not n-grams themselves (Heafield et al.).
    """
    words, occurrences = rows["words"], rows["count"]
    counts = occurrences
    for order in range(words.shape[1], 0, -1):
        inside = words[:, 1] != SENTENCE_START if order > 1 else np.ones(len(words), dtype=bool)
        yield Adjusted(words[inside], occurrences[inside], counts[inside])
        if order == 1:
            return
        shorter = words[:, 1:]
        starts = group_starts(shorter)
        preceding = np.diff(np.append(starts, len(shorter)))
        words = shorter[starts]
        occurrences = np.add.reduceat(occurrences, starts) if len(starts) else occurrences
        counts = np.where(words[:, 0] == SENTENCE_START, occurrences, preceding)
