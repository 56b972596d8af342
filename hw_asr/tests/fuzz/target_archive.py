"""Fuzz target: archives of corpora, tar (gz, bz2, xz) and zip; nothing may be written outside the target."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

from hw_asr.runtime.unpacking import unpack
from hw_asr.tests.fuzz.engine import Target

_FILES = {"top/a.txt": b"a" * 100, "top/b/c.txt": bytes(range(200))}


def _seeds() -> list[bytes]:
    seeds = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode=mode) as tar:
            for name, data in _FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        seeds.append(content.getvalue())
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as zipped:
            for name, data in _FILES.items():
                zipped.writestr(name, data)
        seeds.append(content.getvalue())
    return seeds


def _parse(path: Path) -> None:
    place = path.parent / "place"
    place.mkdir(exist_ok=True)
    try:
        unpack(path, place / "target")
    finally:
        outside = {found.name for found in place.iterdir()} - {"target"}
        shutil.rmtree(place)
    assert not outside, f"written outside the target: {outside}"


TARGET = Target(
    seeds=_seeds,
    parse=_parse,
    suffix=".archive",
    tokens=(
        b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"ustar", b"../", b"/etc/x", b"..\\", bytes(512), b"0000777\x00",
        b"GNU.sparse.map=", b"77777777777\x00", b"\x80\x00\x00\x00\x7f" + b"\xff" * 7,
        *(kind.encode() for kind in "126LKxg"),
    ),
)  # fmt: skip
