"""Fuzz target: files of log-probabilities that tuning keeps, in an archive whose checksums are right."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw_asr.lm.tuning.cached_emissions import CachedEmissions
from hw_asr.tests.fuzz.engine import Target

_SEPARATOR = b"\nNEXT MEMBER "


def _seeds() -> Sequence[bytes]:
    """Return the members of a file, one after the other."""
    rows = [np.log(np.full((length, 3), 1 / 3, np.float32)) for length in (2, 3)]
    content = io.BytesIO()
    np.savez(
        content, log_probs=np.concatenate(rows), lengths=np.array([2, 3]), references=np.array(["a", "b"]),
        alphabet=np.array(["^", "a", "b"]), origin=np.array(["val"]), checkpoint=np.array("run/best 1 2"),
    )  # fmt: skip
    with zipfile.ZipFile(content) as archive:
        return [b"".join(_SEPARATOR + name.encode() + b"\n" + archive.read(name) for name in archive.namelist())]


def _write(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for part in data.split(_SEPARATOR)[1:]:
            name, _, content = part.partition(b"\n")
            archive.writestr(name.decode("latin-1").replace("\x00", "") or "x", content)


def _parse(path: Path) -> None:
    emissions = CachedEmissions.load(path)
    for log_probs, lengths, references in emissions.batches(2):
        assert len(log_probs) == len(lengths) == len(references)


TARGET = Target(
    seeds=_seeds,
    parse=_parse,
    suffix=".npz",
    tokens=(
        b"'descr': '<f4'", b"'descr': '|O'", b"'fortran_order': True", b"(5, 3)", b"(5,)", b"()", b"(-1, 3)", b"<U9",
        b"<i8", b"(1000000000000,)", b"\x93NUMPY\x01\x00", _SEPARATOR, b"log_probs.npy\n", b"lengths.npy\n",
    ),
    write=_write,
)  # fmt: skip
