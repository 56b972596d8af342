"""Word n-gram language models for decoding: loading, checks against the alphabet, scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hw_asr.lm.arpa import KENLM_MAGIC, LanguageModelError, Ngrams, read_arpa
from hw_asr.lm.cache import load_arrays, store_arrays
from hw_asr.lm.cache_checks import Arrays, Facts
from hw_asr.lm.kenlm_binary import KenlmTable
from hw_asr.lm.table import NgramTable
from hw_asr.lm.trie import MAX_LENGTH, SPECIAL, Trie, build_trie, spellable

MISSING_UNKNOWN = -100 * math.log(10)
"""What an unknown word gets where a model has no <unk>, as in KenLM."""
logger = logging.getLogger(__name__)


class LanguageModelSource(Protocol):
    """Something that gives a language model when the alphabet is known, like a download by name."""

    def load(self, alphabet: Sequence[str]) -> LanguageModel:
        """Return the model, fetched and read."""


class Overlap(NamedTuple):
    """How much of a language model an alphabet can spell."""

    num_words: int
    num_spellable: int
    mass: float
    """Sum of the unigram probabilities of those that can be spelled, sentence ends and unknown words aside."""

    def __str__(self) -> str:
        return f"{self.num_spellable} of {self.num_words} words ({self.mass:.1%} of the text) can be spelled"


class SpecialWords(NamedTuple):
    """Ids of <s>, </s> and <unk>."""

    start: int
    end: int
    unknown: int


class LanguageModel:
    """A back-off word n-gram model in flat arrays, with the trie of its words in the classes of an alphabet."""

    def __init__(self, name: str, alphabet: Sequence[str], order: int, arrays: Arrays, overlap: Overlap) -> None:
        self.name, self.alphabet, self.order, self.overlap = name, tuple(alphabet), order, overlap
        self._arrays = arrays
        self._table: KenlmTable | None = None
        self.trie = Trie(*(arrays[f"trie_{field}"] for field in Trie._fields))

    @classmethod
    def load(cls, path: Path, alphabet: Sequence[str]) -> LanguageModel:
        """Load an ARPA file, plain or gzipped, or a KenLM binary, for an alphabet with the blank at 0.

        The first time an ARPA file is turned into arrays, which are kept beside it or in the user's cache directory;
        after that they are mapped into memory. Raises LanguageModelError when the file is missing, broken or cannot
        match.
        """
        path = Path(path)
        if not path.is_file():
            raise LanguageModelError(f"{path}: no such language model")
        with path.open("rb") as file:
            is_binary = file.read(len(KENLM_MAGIC)) == KENLM_MAGIC
        table = KenlmTable(path) if is_binary else None
        stored = None if table else load_arrays(path, alphabet)
        if table:
            arrays, overlap = convert_words(path, table.words, table.table.log_probs, alphabet)
            check_overlap(path, arrays, alphabet, overlap)
            facts = Facts(table.order, *overlap)
        elif stored is None:
            arrays, facts = convert(path, alphabet)
            check_overlap(path, arrays, alphabet, Overlap(*facts[1:]))
            store_arrays(path, alphabet, arrays, facts)
        else:
            arrays, facts = stored
        model = cls(str(path), alphabet, facts.order, arrays, Overlap(*facts[1:]))
        model._table = table
        logger.info("%s: %d-gram; with this alphabet %s", path, model.order, model.overlap)
        if model.overlap.mass < 0.5:
            logger.warning("%s: the alphabet covers under half of this model: %s", path, model.overlap)
        return model

    @property
    def ngrams(self) -> NgramTable:
        """What the kernels take."""
        return self._table.table if self._table else self._ngrams

    @property
    def has_misses(self) -> bool:
        """Whether `ngrams` is filled while decoding, which one thread at a time may do; see `lm.table`."""
        return self._table is not None

    def fill_misses(self) -> NgramTable:
        """Add the n-grams that kernels did not find and return the new table."""
        return self._table.fill_misses() if self._table else self._ngrams

    @property
    def start_state(self) -> int:
        """The n-gram state before the first word."""
        return self._table.start_state if self._table else int(self._ngrams.next_states[self.special.start])

    @cached_property
    def _ngrams(self) -> NgramTable:
        arrays = {field: self._arrays[field] for field in Ngrams._fields[2:]}
        return NgramTable(**arrays, misses=np.zeros((0, 2), np.int64), num_misses=np.zeros(1, np.int64))

    @cached_property
    def words(self) -> dict[str, int]:
        """Ids of all words."""
        return {word: index for index, word in enumerate(_unpack(self._arrays["words"]))}

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def score(self, words: Sequence[str], bos: bool = True, eos: bool = True) -> float:
        """Return the natural log-probability of a sentence, beginning and end included when asked for.

        Unknown words get that of <unk>; where the model has none, -100 in decimal logarithms, as in KenLM.
        """
        if self._table:
            return self._table.score(list(words), bos, eos)
        from hw_asr.lm.table_filling import score_words

        ids = [self.words.get(word, self.special.unknown) for word in words] + [self.special.end] * eos
        state = self.start_state if bos else -1
        return float(score_words(self.ngrams, state, np.array(ids, np.int32)))

    @cached_property
    def special(self) -> SpecialWords:
        """Ids of the words that have a meaning of their own."""
        return SpecialWords(*self._arrays["special"].tolist())

    @property
    def has_unknown(self) -> bool:
        """Whether the model has a probability of <unk>."""
        return bool(self.ngrams.log_probs[self.special.unknown] != np.float32(MISSING_UNKNOWN))


def convert(path: Path, alphabet: Sequence[str]) -> tuple[Arrays, Facts]:
    """Read an ARPA file into the arrays that are kept, and facts: the order, the overlap with the alphabet."""
    ngrams = read_arpa(path)
    log_probs = ngrams.log_probs
    if "<unk>" not in ngrams.words and "<UNK>" not in ngrams.words:
        ngrams = _add_unknown(ngrams)
    arrays, overlap = convert_words(path, ngrams.words, log_probs, alphabet)
    arrays |= dict(zip(ngrams._fields[2:], ngrams[2:], strict=True))
    return arrays, Facts(ngrams.order, *overlap)


def convert_words(
    path: Path, words: list[str], log_probs: NDArray[np.float32], alphabet: Sequence[str]
) -> tuple[Arrays, Overlap]:
    """Return the arrays that depend on the words only, and the overlap with the alphabet.

    log_probs (N,), of which the first are those of the words; <unk> has the id N where it is not among them.
    """
    ids = {word: index for index, word in enumerate(words)}
    if "<s>" not in ids or "</s>" not in ids:
        raise LanguageModelError(f"{path}: <s> and </s> are not both among the 1-grams; build it with sentence ends")
    unknown = ids.get("<unk>", ids.get("<UNK>", len(log_probs)))
    trie = build_trie(words, log_probs, alphabet)
    known = spellable(words, alphabet)
    counted = np.ones(len(words), np.bool_)
    counted[[ids[word] for word in SPECIAL if word in ids]] = False
    probs = np.exp(log_probs[: len(words)].astype(np.float64))
    mass = float(probs[known].sum() / max(probs[counted].sum(), 1e-300))
    arrays: Arrays = {f"trie_{name}": array for name, array in zip(trie._fields, trie, strict=True)}
    arrays["words"] = np.frombuffer("\n".join(words).encode(), np.uint8)
    arrays["special"] = np.array([ids["<s>"], ids["</s>"], unknown], np.int32)
    return arrays, Overlap(int(counted.sum()), int(known.sum()), mass)


def check_overlap(path: Path, arrays: Arrays, alphabet: Sequence[str], overlap: Overlap) -> None:
    """Raise LanguageModelError when the alphabet cannot spell a single word of the model."""
    if overlap.num_spellable:
        return
    words = _unpack(arrays["words"])
    remedy = "train or fetch a model of texts normalised to this alphabet"
    for name, change in (("lower", str.lower), ("upper", str.upper)):
        if spellable([change(word) for word in words], alphabet).any():
            remedy = f"its words are in the other case: convert the file to {name} case"
    examples = [word for word in words if not word.startswith("<")][:3]
    raise LanguageModelError(
        f"{path}: the alphabet {''.join(alphabet[1:])!r} cannot spell any of its {overlap.num_words} words "
        f"in up to {MAX_LENGTH} characters (such as {', '.join(map(repr, examples))}); {remedy}"
    )


def _add_unknown(ngrams: Ngrams) -> Ngrams:
    """Give a model without <unk> one; ids of single words stay, so it comes after the n-grams."""
    return ngrams._replace(
        log_probs=np.append(ngrams.log_probs, np.float32(MISSING_UNKNOWN)),
        backoffs=np.append(ngrams.backoffs, np.float32(0)),
        shorter=np.append(ngrams.shorter, np.int32(-1)),
        next_states=np.append(ngrams.next_states, np.int32(-1)),
    )


def _unpack(words: NDArray[np.uint8]) -> list[str]:
    text: str = words.tobytes().decode()
    return text.split("\n")
