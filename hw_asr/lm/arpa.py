"""ARPA files, plain or gzipped, to arrays."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError

Bytes = NDArray[np.uint8]
KENLM_MAGIC = b"mmap lm http://kheafield.com/code"


class LanguageModelError(UserError):
    """A language model that is missing, broken or of no use for the alphabet."""


class Ngrams(NamedTuple):
    """A back-off model: words in the order of their ids, and what `lm_table.NGRAMS` describes."""

    order: int
    words: list[str]
    log_probs: NDArray[np.float32]
    backoffs: NDArray[np.float32]
    shorter: NDArray[np.int32]
    next_states: NDArray[np.int32]
    keys: NDArray[np.uint64]
    values: NDArray[np.int32]


class _Section(NamedTuple):
    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    backoffs: NDArray[np.float32]


def read_arpa(path: Path) -> Ngrams:
    """Read a whole ARPA file.

    Raises LanguageModelError with the line and the reason when it is none, is cut off or contradicts itself.
    """
    data = read_bytes(path)
    counts, position = _read_header(path, data)
    table = np.full(1 << (2 * counts[0]).bit_length(), -1, np.int32)
    spans = np.zeros((counts[0], 2), np.int64)
    sections = []
    for order, count in enumerate(counts, 1):
        section, position = _read_section(path, data, position, order, count, table, spans)
        sections.append(section)
    if not re.match(rb"\s*\\end\\", data[position : position + 32].tobytes()):
        raise LanguageModelError(
            f"{path}: \\end\\ is missing after the last section: the file is cut off; fetch it again"
        )
    content = data[: spans.sum(axis=1).max()].tobytes()
    words = [content[begin : begin + length].decode("utf-8", "replace") for begin, length in spans.tolist()]
    return _link(path, words, sections)


def read_bytes(path: Path) -> Bytes:
    """Return the content of a file, unpacked when it is gzip.

    Raises LanguageModelError when it cannot be read or unpacked whole.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                plain: Bytes = np.fromfile(path, np.uint8)
                return plain
        with gzip.open(path) as file:
            return np.frombuffer(bytearray(file.read()), np.uint8)
    except FileNotFoundError:
        raise LanguageModelError(f"{path}: there is no such language model") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read: {error.strerror}") from error


def _read_header(path: Path, data: Bytes) -> tuple[list[int], int]:
    head = data[: 1 << 16].tobytes()
    if not head.strip():
        raise LanguageModelError(f"{path}: the file is empty; fetch it again")
    start = re.search(rb"^\\data\\\s*$", head, re.MULTILINE)
    if start is None:
        raise LanguageModelError(
            f"{path}: neither ARPA (no \\data\\ line), nor gzip, nor a KenLM binary; it begins with {head[:24]!r}"
        )
    counts: list[int] = []
    position = start.end()
    while line := re.compile(rb"\s*ngram\s+(\d+)\s*=\s*(\d+)[ \t\r]*(?=\n)").match(head, position):
        if int(line[1]) != len(counts) + 1:
            raise LanguageModelError(f"{path}: the header counts {int(line[1])}-grams after {len(counts)}-grams")
        counts.append(int(line[2]))
        position = line.end()
    if not counts or counts[0] == 0:
        raise LanguageModelError(f"{path}: the header counts no words (ngram 1=...)")
    return counts, position


def _read_section(
    path: Path, data: Bytes, position: int, order: int, count: int, table: NDArray[np.int32], spans: NDArray[np.int64]
) -> tuple[_Section, int]:
    from hw_asr.lm import arpa_kernels as kernels

    title = re.compile(rb"\s*\\%d-grams:[ \t\r]*(?=\n)" % order).match(data[position : position + 256].tobytes())
    if title is None:
        raise LanguageModelError(
            f"{path}: line {_line(data, position)}: expected \\{order}-grams:; the file is cut off or damaged"
        )
    section = _Section(np.empty((count, order), np.int32), np.empty(count, np.float32), np.empty(count, np.float32))
    position, found, end = kernels.read_section(data, position + title.end(), table, spans, *section)
    if end == kernels.GOOD:
        return section, position
    token = re.match(rb"[^\s]*", data[position : position + 80].tobytes())
    name = token[0].decode("utf-8", "replace") if token else ""
    reasons = {
        kernels.SHORT_LINE: f"expected {order} words after the probability",
        kernels.BAD_NUMBER: f"expected a number, got {name!r}",
        kernels.UNKNOWN_WORD: f"{name!r} is not among the 1-grams",
        kernels.REPEATED_WORD: f"{name!r} stands twice among the 1-grams",
        kernels.TOO_FEW: f"the header counts {count} {order}-grams, there are {found}; the file is cut off or damaged",
        kernels.TOO_MANY: f"the header counts {count} {order}-grams, there are more",
    }
    raise LanguageModelError(f"{path}: line {_line(data, position)}: {reasons[end]}")


def _line(data: Bytes, position: int) -> int:
    return int(np.count_nonzero(data[:position] == ord("\n"))) + 1


def _link(path: Path, words: list[str], sections: list[_Section]) -> Ngrams:
    from hw_asr.lm import arpa_kernels as kernels

    log_probs = np.concatenate([section.log_probs for section in sections])
    backoffs = np.concatenate([section.backoffs for section in sections])
    total, num_words = len(log_probs), len(words)
    size = 1 << max(4, (3 * (total - num_words) // 2).bit_length())
    keys, values = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    shorter, continued = np.full(total, -1, np.int32), np.zeros(total, np.int8)
    first = num_words
    for order, section in enumerate(sections[1:], 2):
        orphan = kernels.link(section.ids, first, keys, values, shorter, continued)
        if orphan >= 0:
            ngram = [words[word] for word in section.ids[orphan]]
            raise LanguageModelError(
                f"{path}: has the {order}-gram {' '.join(ngram)!r} but not its context {' '.join(ngram[:-1])!r}"
            )
        first += len(section.ids)
    next_states = np.empty(total, np.int32)
    kernels.choose_states(backoffs, shorter, continued, next_states)
    return Ngrams(len(sections), words, log_probs, backoffs, shorter, next_states, keys, values)
