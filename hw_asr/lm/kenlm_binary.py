"""KenLM binaries, read with the package kenlm: asked word by word, and every answer kept for the kernels."""

from __future__ import annotations

import importlib
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from hw_asr.lm.arpa import LanguageModelError
from hw_asr.runtime.optional import MissingPackageError, optional_import

LN_10 = math.log(10)


class KenlmTable:
    """The arrays of `lm_table.NGRAMS`, filled while decoding.

    An entry is a word after a state, with its log-probability and the state that follows; the first entries are the
    single words. What the kernels do not find they note, and `resolve` asks KenLM.
    """

    def __init__(self, path: Path) -> None:
        self._kenlm = _find_kenlm(path)
        try:
            self._model = self._kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise LanguageModelError(f"{path}: KenLM cannot read this file, it may be damaged: {error}") from error
        self.order = int(self._model.order)
        self.words = read_vocabulary(path)
        self._states: list[Any] = []
        self._ids: dict[Any, int] = {}
        begin, empty = self._kenlm.State(), self._kenlm.State()
        self._model.BeginSentenceWrite(begin)
        self._model.NullContextWrite(empty)
        self.start_state = self._number(begin)
        self.empty_state = self._number(empty)
        self._num_entries = len(self.words)
        self._entries: list[tuple[int, int]] = []
        self._log_probs, self._next_states = np.zeros(0, np.float32), np.zeros(0, np.int32)
        self._make_room(2 * len(self.words) + 8192)
        self.misses = np.zeros((4096, 2), np.int64)
        after = self._kenlm.State()
        for index, word in enumerate(self.words):
            self._log_probs[index] = self._model.BaseScore(empty, word, after) * LN_10

    @property
    def ngrams(self) -> tuple[Any, ...]:
        """What the kernels take; it changes with `resolve`."""
        backoffs = np.zeros(0, np.float32)
        return self._log_probs, backoffs, self._shorter, self._next_states, self._keys, self._values, self.misses

    def resolve(self) -> tuple[Any, ...]:
        """Answer what the kernels asked for and return the new arrays."""
        from hw_asr.lm.table import insert

        count = int(self.misses[0, 0])
        if self._num_entries + count > len(self._log_probs):
            self._make_room(2 * len(self._log_probs))
        for state, word in dict.fromkeys(map(tuple, self.misses[1 : count + 1].tolist())):
            after = self._kenlm.State()
            log_prob = self._model.BaseScore(self._states[state], self.words[word], after) * LN_10
            self._log_probs[self._num_entries] = log_prob
            self._next_states[self._num_entries] = self._number(after)
            insert(self._keys, self._values, state, word, self._num_entries)
            self._entries.append((state, word))
            self._num_entries += 1
        self.misses[0, 0] = 0
        return self.ngrams

    def score(self, words: list[str], bos: bool, eos: bool) -> float:
        """Return the natural log-probability of a sentence."""
        return float(self._model.score(" ".join(words), bos=bos, eos=eos)) * LN_10

    def _number(self, state: Any) -> int:
        if state not in self._ids:
            self._ids[state] = len(self._states)
            self._states.append(state)
        return self._ids[state]

    def _make_room(self, size: int) -> None:
        """Enlarge the arrays to `size` entries; there are fewer states than that."""
        from hw_asr.lm.table import ASK, insert

        more = size - len(self._log_probs)
        self._log_probs = np.concatenate([self._log_probs, np.zeros(more, np.float32)])
        self._next_states = np.concatenate([self._next_states, np.full(more, -1, np.int32)])
        self._shorter = np.full(size, ASK, np.int32)
        slots = 1 << (2 * size).bit_length()
        self._keys, self._values = np.zeros(slots, np.uint64), np.full(slots, -1, np.int32)
        for entry, (state, word) in enumerate(self._entries, len(self.words)):
            insert(self._keys, self._values, state, word, entry)


def read_vocabulary(path: Path) -> list[str]:
    """Return the words of a KenLM binary in the order of their ids; they are its last part.

    Raises LanguageModelError when the binary was built without them.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.rfind(b"<unk>\0")
        if begin < 0:
            raise LanguageModelError(f"{path}: a KenLM binary without its words; give the ARPA file it was made from")
        return data[begin:].rstrip(b"\0").decode("utf-8", "replace").split("\0")


def _find_kenlm(path: Path) -> Any:
    try:
        with optional_import(f"{path}: a KenLM binary", "kenlm", "kenlm"):
            return importlib.import_module("kenlm")
    except MissingPackageError as error:
        raise LanguageModelError(f"{error}; or give the ARPA file that it was made from") from error
