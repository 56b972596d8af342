"""The zip archive that torch.save writes: uncompressed members `NAME/data.pkl` and `NAME/data/KEY`.

Other archives are refused: compressed or encrypted members, TorchScript (which holds code), members that overlap or are
larger than the file, and files that only end in an archive (a legacy tar, for one).
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hw_asr.checkpoints.errors import FormatError

_MAGIC = b"PK\x03\x04"
_PICKLE, _STORAGES = "data.pkl", "data/"
_CODE = ("code/", "constants/", "constants.pkl")
_MAX_MEMBERS = 1_000_000
_ENCRYPTED = 1
_BLOCK = 1 << 20
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, RuntimeError,
    OverflowError, IndexError,
)  # fmt: skip


class CheckpointArchive:
    """An open archive; every member is verified by its CRC when it is read."""

    def __init__(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(_MAGIC)) != _MAGIC:
            raise FormatError("not a checkpoint, or one that was cut short: it does not begin like a zip archive")
        try:
            self._zip = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise FormatError(f"not a checkpoint, or one that was cut short: {error}") from error
        members = self._zip.infolist()
        if len(members) > _MAX_MEMBERS:
            raise FormatError(f"{len(members)} members; a checkpoint has at most {_MAX_MEMBERS}")
        names = [member.filename for member in members]
        if any(name.partition("/")[2].startswith(_CODE) for name in names):
            raise FormatError("a TorchScript archive, which contains code; save the state_dict instead")
        if len(set(names)) != len(names):
            raise FormatError("two members have the same name")
        for member in members:
            _check_member(member)
        if sum(member.file_size for member in members) > size:
            raise FormatError("its members are larger than the file")
        prefix = _prefix(names)
        self._members = {member.filename.removeprefix(prefix): member for member in members}
        if "byteorder" in self._members and self.read("byteorder") != b"little":
            raise FormatError("written on a big-endian machine")

    def pickle(self) -> bytes:
        """Return the pickled structure."""
        return bytes(self.read(_PICKLE))

    def storage(self, key: str) -> bytearray:
        """Return the bytes of a tensor storage; raises FormatError when there is none of this key."""
        if f"{_STORAGES}{key}" not in self._members:
            raise FormatError(f"has no data for storage {key!r:.40}")
        return self.read(f"{_STORAGES}{key}")

    def read(self, name: str) -> bytearray:
        """Return the content of a member."""
        content = bytearray()
        with self._zip.open(self._members[name]) as member:
            while block := member.read(_BLOCK):
                content += block
        return content

    def verify_others(self, read: set[str]) -> None:
        """Read the storages whose keys are not in `read`, to verify their CRC."""
        for name in self._members:
            if name != _PICKLE and name.removeprefix(_STORAGES) not in read:
                self.read(name)


@contextmanager
def open_archive(path: Path) -> Iterator[CheckpointArchive]:
    """Open a checkpoint file; also inside the block, raises FormatError for whatever the zip reader meets."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FormatError("not a regular file")
        try:
            yield CheckpointArchive(file)
        except _ZIP_ERRORS as error:
            raise FormatError(f"damaged: {error}") from error


def _check_member(member: zipfile.ZipInfo) -> None:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise FormatError(f"member {member.filename!r:.60} is compressed; torch.save compresses nothing")
    if member.flag_bits & _ENCRYPTED:
        raise FormatError(f"damaged: member {member.filename!r:.60} is encrypted")


def _prefix(names: list[str]) -> str:
    """Return `NAME/`, the directory of everything in the archive."""
    pickles = [name for name in names if name.endswith(f"/{_PICKLE}") and name.count("/") == 1]
    if len(pickles) != 1:
        raise FormatError(f"not a checkpoint: it has {len(pickles)} members NAME/{_PICKLE}, expected one")
    prefix = pickles[0].removesuffix(_PICKLE)
    if not all(name.startswith(prefix) for name in names):
        raise FormatError(f"not a checkpoint: it has members outside {prefix}")
    return prefix
