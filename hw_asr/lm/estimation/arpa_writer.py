"""Writing n-grams in the ARPA format."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np
from tqdm import tqdm

from hw_asr.lm.estimation.smoothing import Entries
from hw_asr.lm.estimation.sorting import Array, row_type
from hw_asr.runtime.atomic_files import write_and_rename

_BLOCK = 1 << 16
"""N-grams turned into text at a time."""


class ArpaSections:
    """Collects the n-grams of all orders, which arrive interleaved, on disk, until they can be written one by one."""

    def __init__(self, directory: Path, order: int) -> None:
        self._paths = [directory / f"section.{number}" for number in range(1, order + 1)]
        self._types = [row_type(number, log10_prob="<f4", log10_backoff="<f4") for number in range(1, order + 1)]
        self._counts = [0] * order

    def add(self, entries: Entries) -> None:
        """Append n-grams to the section of their order."""
        order = entries.words.shape[1]
        rows = np.zeros(len(entries.words), dtype=self._types[order - 1])
        rows["words"] = entries.words
        rows["log10_prob"] = entries.log10_probs
        if entries.log10_backoffs is not None:
            rows["log10_backoff"] = entries.log10_backoffs
        with self._paths[order - 1].open("ab") as file:
            rows.tofile(file)
        self._counts[order - 1] += len(rows)

    def write(self, path: Path, words: Sequence[str]) -> None:
        """Write the model to `path`, compressed if that ends in .gz; `words` are the words by id."""
        with (
            ExitStack() as stack,
            tqdm(
                total=sum(self._counts), unit="n-gram", unit_scale=True, desc="writing", delay=1, disable=None
            ) as progress,
        ):
            file: IO[bytes] = stack.enter_context(write_and_rename(path))
            if path.suffix == ".gz":
                packed = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0))
                file = cast("IO[bytes]", packed)
            head = "".join(f"ngram {order}={count}\n" for order, count in enumerate(self._counts, start=1))
            file.write(f"\\data\\\n{head}".encode())
            for order in range(1, len(self._paths) + 1):
                file.write(f"\n\\{order}-grams:\n".encode())
                for rows in self._blocks(order):
                    file.write(_lines(rows, words, with_backoff=order < len(self._paths)).encode())
                    progress.update(len(rows))
            file.write(b"\n\\end\\\n")

    def _blocks(self, order: int) -> Iterator[Array]:
        if self._counts[order - 1]:
            with self._paths[order - 1].open("rb") as file:
                while len(rows := np.fromfile(file, dtype=self._types[order - 1], count=_BLOCK)):
                    yield rows


def _lines(rows: Array, words: Sequence[str], with_backoff: bool) -> str:
    columns = [[words[index] for index in column] for column in rows["words"].T.tolist()]
    ngrams = [" ".join(words) for words in zip(*columns, strict=True)]
    probs = rows["log10_prob"].tolist()
    if not with_backoff:
        return "".join([f"{prob:.7g}\t{ngram}\n" for prob, ngram in zip(probs, ngrams, strict=True)])
    return "".join(
        [
            f"{prob:.7g}\t{ngram}\t{backoff:.7g}\n"
            for prob, ngram, backoff in zip(probs, ngrams, rows["log10_backoff"].tolist(), strict=True)
        ]
    )
