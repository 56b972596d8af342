"""Results of an unfinished command, saved one by one: the same command continues after an interruption."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_asr.commands.output_files import write_entries, writing
from hw_asr.runtime.atomic_files import open_regular
from hw_asr.types import Utterance

logger = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""Longest time between two writes to the disk, seconds; the operating system gets every entry at once."""
KEY_DIGITS = 16
"""So much of a key is in the name of a file."""


class PartialResults:
    """Entries in an append-only file beside the output, one JSON line each, below a line with the run's key.

    Its name has the key as well, so that runs with other keys leave it alone; `output_files.reserved` keeps away those
    with the same. Entries that an earlier run with the same key has saved are read, unless `overwrite`. Used as a
    context manager, which closes the file; `write` writes the output, `delete` deletes the file.
    """

    def __init__(self, output: Path, key: str, overwrite: bool) -> None:
        self._output = output
        self.path = output.with_name(f".{output.name}.{key[:KEY_DIGITS]}.partial")
        self._entries = {} if overwrite else self._read(key)
        self._last_sync = 0.0
        with writing(self.path, "--output"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_regular(self.path, "ab" if self._entries else "wb", buffering=0)
            if not self._entries:
                self._append({"key": key})
        for path in self._others():
            logger.warning("%s: kept by a run with other recordings, checkpoint, config or options; not used now", path)
        if self._entries:
            logger.info("%s: continuing after %d results; --overwrite starts over", self.path, len(self))

    def __enter__(self) -> PartialResults:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            logger.warning("interrupted: %d results are kept; run the same command again to continue", len(self))
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, source: str, utterance: Utterance) -> dict[str, object] | None:
        """Return the entry of an utterance of a split or folder; None if it is not known or the file has changed."""
        return self._entries.get(_identity(source, utterance))

    def add(self, source: str, utterance: Utterance, entry: dict[str, object]) -> None:
        """Save an entry; raises OutputError if it cannot be written."""
        identity = _identity(source, utterance)
        with writing(self.path, "--output", f"; {len(self)} results are kept, run the same command again to continue"):
            self._append({"recording": identity, "entry": entry})
        self._entries[identity] = entry

    def close(self) -> None:
        """Write all entries to the disk and close the file."""
        with writing(self.path, "--output"), self._file:
            os.fsync(self._file.fileno())

    def write(self, entries: Sequence[dict[str, object]]) -> None:
        """Write all entries to the output; raises OutputError if that fails."""
        write_entries(entries, self._output, f"; the results are kept in {self.path}, run the same command again")

    def delete(self) -> None:
        """Delete the partial results: everything that the run writes is written, and the file is closed."""
        self.path.unlink(missing_ok=True)

    def _others(self) -> list[Path]:
        """Return the files that interrupted runs with other keys, or of an earlier version, have left."""
        name = re.compile(rf"\.{re.escape(self._output.name)}(\.[0-9a-f]{{{KEY_DIGITS}}})?\.partial")
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name) and path != self.path)

    def _append(self, line: Mapping[str, object]) -> None:
        content = json.dumps(line).encode() + b"\n"
        if self._file.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if time.monotonic() - self._last_sync >= SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._last_sync = time.monotonic()

    def _read(self, key: str) -> dict[str, dict[str, object]]:
        """Return the entries of an earlier run with this key; remove an incomplete last line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        whole, _, rest = content.rpartition(b"\n")
        try:
            header, *lines = [json.loads(line) for line in whole.split(b"\n")] or [{}]
            if header["key"] != key:
                raise ValueError("the key is another one")
            entries = {line["recording"]: line["entry"] for line in lines}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s: damaged (%s); starting from the beginning", self.path, error)
            return {}
        if rest and entries:
            with writing(self.path, "--output"), open_regular(self.path, "r+b") as file:
                file.truncate(len(whole) + 1)
        return entries


def key_of(parts: Mapping[str, object], files: Mapping[str, Path]) -> str:
    """Return a digest of a run's settings (JSON values) and of the sizes and times of the files it depends on."""
    states = {name: [str(path.absolute()), *_state(path)] for name, path in files.items()}
    text = json.dumps([parts, states], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _identity(source: str, utterance: Utterance) -> str:
    """Return a key of an utterance that changes with its file and its reference text, as it is spelled if known."""
    state, text = _state(Path(utterance.audio_path)), getattr(utterance.text, "spelling", utterance.text)
    return json.dumps([source, utterance.audio_path, *state, text, utterance.offset, utterance.duration])


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # a missing file, or a name with a null character: the reader reports it
        return -1, -1
    return status.st_size, status.st_mtime_ns
