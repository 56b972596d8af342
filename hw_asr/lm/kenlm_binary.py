"""KenLM binaries, read with the package kenlm, whose answers are kept in a table for the kernels."""

from __future__ import annotations

import importlib
import math
import mmap
import struct
from pathlib import Path
from types import ModuleType

import numpy as np

from hw_asr.lm.arpa import LanguageModelError
from hw_asr.lm.table import UNRESOLVED, NgramTable
from hw_asr.runtime.optional import MissingPackageError, optional_import

LN_10 = math.log(10)
MAGIC = b"mmap lm http://kheafield.com/code format version 5\n".ljust(56, b"\0")
SANITY = struct.Struct("<fffIIIQ")
SANE = (0.0, 1.0, -0.5, 1, 2**32 - 1, 0, 1)
PARAMETERS = struct.Struct("<B3xfi?3xI")
MAX_ORDER = 16


class KenlmTable:
    """An `NgramTable` that is filled while decoding (see "Misses" in `lm.table`).

    An entry is a word after a state, with its log-probability and the state that follows; the first entries are the
    single words.
    """

    def __init__(self, path: Path) -> None:
        check_header(path)
        self._kenlm = _find_kenlm(path)
        try:
            self._model = self._kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise LanguageModelError(f"{path}: KenLM cannot read this file, it may be damaged: {error}") from error
        self.order = int(self._model.order)
        self.words = read_vocabulary(path)
        self._states: list[object] = []
        self._ids: dict[object, int] = {}
        begin, empty = self._kenlm.State(), self._kenlm.State()
        self._model.BeginSentenceWrite(begin)
        self._model.NullContextWrite(empty)
        self.start_state = self._number(begin)
        self.empty_state = self._number(empty)
        self._num_entries = len(self.words)
        self._entries: list[tuple[int, int]] = []
        size = 2 * len(self.words) + 8192
        self.table = NgramTable(
            log_probs=np.zeros(size, np.float32),
            backoffs=np.zeros(0, np.float32),
            shorter=np.full(size, UNRESOLVED, np.int32),
            next_states=np.full(size, -1, np.int32),
            keys=np.zeros(0, np.uint64),
            values=np.zeros(0, np.int32),
            misses=np.zeros((4096, 2), np.int64),
            num_misses=np.zeros(1, np.int64),
        )
        self._make_room(size)
        after = self._kenlm.State()
        for index, word in enumerate(self.words):
            self.table.log_probs[index] = self._model.BaseScore(empty, word, after) * LN_10

    def fill_misses(self) -> NgramTable:
        """Add the n-grams that were missing and return the new table."""
        from hw_asr.lm.table_filling import insert

        count = int(self.table.num_misses[0])
        if self._num_entries + count > len(self.table.log_probs):
            self._make_room(2 * len(self.table.log_probs))
        table = self.table
        for state, word in dict.fromkeys(map(tuple, table.misses[:count].tolist())):
            after = self._kenlm.State()
            table.log_probs[self._num_entries] = (
                self._model.BaseScore(self._states[state], self.words[word], after) * LN_10
            )
            table.next_states[self._num_entries] = self._number(after)
            insert(table.keys, table.values, state, word, self._num_entries)
            self._entries.append((state, word))
            self._num_entries += 1
        table.num_misses[0] = 0
        return table

    def score(self, words: list[str], bos: bool, eos: bool) -> float:
        """Return the natural log-probability of a sentence."""
        return float(self._model.score(" ".join(words), bos=bos, eos=eos)) * LN_10

    def _number(self, state: object) -> int:
        if state not in self._ids:
            self._ids[state] = len(self._states)
            self._states.append(state)
        return self._ids[state]

    def _make_room(self, size: int) -> None:
        """Enlarge the table to `size` entries; there are fewer states than that."""
        from hw_asr.lm.table_filling import insert

        more = size - len(self.table.log_probs)
        slots = 1 << (2 * size).bit_length()
        self.table = self.table._replace(
            log_probs=np.concatenate([self.table.log_probs, np.zeros(more, np.float32)]),
            next_states=np.concatenate([self.table.next_states, np.full(more, -1, np.int32)]),
            shorter=np.full(size, UNRESOLVED, np.int32),
            keys=np.zeros(slots, np.uint64),
            values=np.full(slots, -1, np.int32),
        )
        for entry, (state, word) in enumerate(self._entries, len(self.words)):
            insert(self.table.keys, self.table.values, state, word, entry)


def check_header(path: Path) -> None:
    """Raise LanguageModelError when the header of a KenLM binary is damaged, or counts more than the file can hold.

    The library maps the file by these numbers (lm/binary_format.cc: sanity bytes, parameters, n-gram counts).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        data = file.read(len(MAGIC) + SANITY.size + PARAMETERS.size + 8 * MAX_ORDER)
    damaged = LanguageModelError(f"{path}: a damaged KenLM binary, or one of another version; build it again")
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + SANITY.size + PARAMETERS.size:
        raise damaged
    order, *_ = PARAMETERS.unpack_from(data, len(MAGIC) + SANITY.size)
    begin = len(MAGIC) + SANITY.size + PARAMETERS.size
    if SANITY.unpack_from(data, len(MAGIC)) != SANE or not 1 <= order <= MAX_ORDER or len(data) < begin + 8 * order:
        raise damaged
    counts = struct.unpack_from(f"<{order}Q", data, begin)
    if counts[0] == 0 or sum(counts) > 8 * size:  # an n-gram takes more than a bit
        raise damaged


def read_vocabulary(path: Path) -> list[str]:
    """Return the words of a KenLM binary in the order of their ids; they are its last part.

    Raises LanguageModelError when the binary was built without them or they are not UTF-8.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.rfind(b"<unk>\0")
        if begin < 0:
            raise LanguageModelError(f"{path}: a KenLM binary without its words; give the ARPA file it was made from")
        try:
            return data[begin:].rstrip(b"\0").decode().split("\0")
        except UnicodeDecodeError as error:
            raise LanguageModelError(f"{path}: its words are not UTF-8; build it from a UTF-8 ARPA file") from error


def _find_kenlm(path: Path) -> ModuleType:
    try:
        with optional_import(f"{path}: a KenLM binary", "kenlm", "kenlm"):
            return importlib.import_module("kenlm")
    except MissingPackageError as error:
        raise LanguageModelError(f"{error}; or give the ARPA file that it was made from") from error
