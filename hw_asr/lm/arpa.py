"""Reading ARPA files, plain or gzipped, into arrays."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError

if TYPE_CHECKING:
    from hw_asr.lm.arpa_kernels import Section, Vocabulary

Bytes = NDArray[np.uint8]
KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
MAX_ORDER = 16
MAX_NGRAMS = 2**31 - 2
"""N-gram ids are 32-bit integers."""
MAX_GZIP_RATIO = 100
"""ARPA files compress 3 to 20 times; a file that unpacks to more than this is refused."""
SMALL_UNPACKED = 1 << 26
"""Bytes that a gzip file may unpack to whatever its ratio."""


class LanguageModelError(UserError):
    """A language model that is missing, damaged, or that does not fit the alphabet."""


class Ngrams(NamedTuple):
    """A back-off model: words in the order of their ids, and the first fields of `lm.table.NgramTable`."""

    order: int
    words: list[str]
    log_probs: NDArray[np.float32]
    backoffs: NDArray[np.float32]
    shorter: NDArray[np.int32]
    next_states: NDArray[np.int32]
    keys: NDArray[np.uint64]
    values: NDArray[np.int32]


class _File(NamedTuple):
    """An ARPA file in memory."""

    path: Path
    data: Bytes

    def error(self, position: int, reason: str) -> LanguageModelError:
        """Return an error that names the line at `position`."""
        line = int(np.count_nonzero(self.data[:position] == ord("\n"))) + 1
        return LanguageModelError(f"{self.path}: line {line}: {reason}")


def read_arpa(path: Path) -> Ngrams:
    """Read a whole ARPA file.

    Log-probabilities and back-offs of -inf become a very small finite number. Raises LanguageModelError with the line
    and the reason when the file is not ARPA, incomplete, inconsistent, not UTF-8, or has positive log-probabilities.
    """
    from hw_asr.lm.arpa_kernels import Vocabulary

    file = _File(path, read_bytes(path))
    counts, position = _read_header(file)
    vocabulary = Vocabulary(
        np.full(1 << (2 * counts[0]).bit_length(), -1, np.int32), np.zeros((counts[0], 2), np.int64)
    )
    sections = []
    for order, count in enumerate(counts, 1):
        section, position = _read_section(file, position, (count, order), vocabulary)
        sections.append(section)
    if not re.match(rb"\s*\\end\\", file.data[position : position + 32].tobytes()):
        raise LanguageModelError(
            f"{path}: \\end\\ is missing after the last section: the file is truncated; download or copy it again"
        )
    return _link(path, _words(file, vocabulary.spans), sections)


def read_bytes(path: Path) -> Bytes:
    """Return the content of a file, unpacked when it is gzip.

    Raises LanguageModelError when it cannot be read, is truncated, or unpacks to implausibly much.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                plain: Bytes = np.fromfile(path, np.uint8)
                return plain
        limit = max(SMALL_UNPACKED, MAX_GZIP_RATIO * path.stat().st_size)
        content = io.BytesIO()
        with gzip.open(path) as packed:
            while block := packed.read(1 << 22):
                content.write(block)
                if content.tell() > limit:
                    raise LanguageModelError(
                        f"{path}: unpacks to more than {limit >> 20} MiB, {MAX_GZIP_RATIO} times its size, "
                        "which no ARPA file does; unpack it yourself if you trust it"
                    )
        return np.frombuffer(content.getbuffer(), np.uint8)
    except FileNotFoundError:
        raise LanguageModelError(f"{path}: no such language model") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(
            f"{path}: the gzip file is truncated or damaged ({error}); download or copy it again"
        ) from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot read the file: {error.strerror}") from error


def _read_header(file: _File) -> tuple[list[int], int]:
    path = file.path
    head = file.data[: 1 << 16].tobytes()
    if not head.strip():
        raise LanguageModelError(f"{path}: the file is empty; download or copy it again")
    start = re.search(rb"^(?:\xef\xbb\xbf)?\\data\\\s*$", head, re.MULTILINE)
    if start is None:
        raise LanguageModelError(
            f"{path}: neither ARPA (no \\data\\ line), nor gzip, nor a KenLM binary; it begins with {head[:24]!r}"
        )
    counts: list[int] = []
    position = start.end()
    while line := re.compile(rb"\s*ngram\s+(\d{1,18})\s*=\s*(\d{1,18})[ \t\r]*(?=\n)").match(head, position):
        if int(line[1]) != len(counts) + 1:
            raise LanguageModelError(f"{path}: the header counts {int(line[1])}-grams after {len(counts)}-grams")
        counts.append(int(line[2]))
        position = line.end()
    if bad_line := re.compile(rb"\s*(ngram\s.{1,40})").match(head, position):
        raise LanguageModelError(f"{path}: cannot read the header line {bad_line[1].decode(errors='replace')!r}")
    if not counts or counts[0] == 0:
        raise LanguageModelError(f"{path}: the header counts no words (ngram 1=...)")
    if len(counts) > MAX_ORDER:
        raise LanguageModelError(f"{path}: the header counts {len(counts)}-grams; at most {MAX_ORDER} are supported")
    smallest = sum(count * (2 * order + 2) for order, count in enumerate(counts, 1))  # "0 a b\n" for a 2-gram
    if smallest > len(file.data):
        raise LanguageModelError(
            f"{path}: the header counts {sum(counts)} n-grams, more than {len(file.data)} bytes can hold; "
            "the file is truncated or damaged"
        )
    if sum(counts) > MAX_NGRAMS:
        raise LanguageModelError(f"{path}: {sum(counts)} n-grams; at most {MAX_NGRAMS} are supported")
    return counts, position


def _read_section(file: _File, position: int, shape: tuple[int, int], vocabulary: Vocabulary) -> tuple[Section, int]:
    """Read the section of `shape`, number of n-grams and order; return it and the position after it."""
    from hw_asr.lm import arpa_kernels as kernels

    count, order = shape
    title = re.compile(rb"\s*\\%d-grams:[ \t\r]*(?=\n)" % order).match(file.data[position : position + 256].tobytes())
    if title is None:
        raise file.error(position, f"expected \\{order}-grams:; the file is truncated or damaged")
    section = kernels.Section(np.empty(shape, np.int32), np.empty(count, np.float32), np.empty(count, np.float32))
    position, num_read, end = kernels.read_section(file.data, position + title.end(), vocabulary, section)
    if end == kernels.GOOD:
        return section, position
    token = re.match(rb"[^\s]*", file.data[position : position + 80].tobytes())
    name = token[0].decode("utf-8", "backslashreplace") if token else ""
    reasons = {
        kernels.SHORT_LINE: f"expected {order} words after the probability",
        kernels.BAD_NUMBER: f"expected a number, got {name!r}",
        kernels.POSITIVE: f"positive log-probability {name}: no probability is above 1; build the model again",
        kernels.UNKNOWN_WORD: f"{name!r} is not among the 1-grams",
        kernels.REPEATED_WORD: f"duplicate 1-gram {name!r}",
        kernels.TOO_FEW: f"the header counts {count} {order}-grams, there are {num_read}; "
        "the file is truncated or damaged",
        kernels.TOO_MANY: f"the header counts {count} {order}-grams, there are more",
    }
    raise file.error(position, reasons[end])


def _words(file: _File, spans: NDArray[np.int64]) -> list[str]:
    """Return the words of the 1-grams."""
    content = file.data[: spans.sum(axis=1).max()].tobytes()
    words = []
    for begin, length in spans.tolist():
        try:
            words.append(content[begin : begin + length].decode())
        except UnicodeDecodeError:
            raise file.error(
                begin,
                f"{content[begin : begin + length]!r} is not UTF-8; convert the file first, for example with "
                "iconv -f ISO-8859-1 -t UTF-8",
            ) from None
    return words


def _link(path: Path, words: list[str], sections: list[Section]) -> Ngrams:
    from hw_asr.lm import arpa_kernels as kernels

    log_probs = np.concatenate([section.log_probs for section in sections])
    backoffs = np.concatenate([section.backoffs for section in sections])
    total, num_words = len(log_probs), len(words)
    size = 1 << max(4, (3 * (total - num_words) // 2).bit_length())
    links = kernels.Links(
        keys=np.zeros(size, np.uint64),
        values=np.full(size, -1, np.int32),
        shorter=np.full(total, -1, np.int32),
        continued=np.zeros(total, np.int8),
    )
    first = num_words
    for order, section in enumerate(sections[1:], 2):
        orphan = kernels.link(section.ids, first, links)
        if orphan >= 0:
            ngram = [words[word] for word in section.ids[orphan]]
            raise LanguageModelError(
                f"{path}: has the {order}-gram {' '.join(ngram)!r} but not its context {' '.join(ngram[:-1])!r}"
            )
        first += len(section.ids)
    next_states = np.empty(total, np.int32)
    kernels.choose_states(backoffs, links.shorter, links.continued, next_states)
    return Ngrams(len(sections), words, log_probs, backoffs, links.shorter, next_states, links.keys, links.values)
