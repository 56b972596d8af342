"""Files that `test` writes: checked before recognition starts, written whole, and errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import check_replaceable, write_and_rename
from hw_asr.runtime.file_lock import hold

PROBE_BYTES = 64 * 1024
"""What must fit on the disk before recognition starts."""


class OutputError(UserError):
    """A file cannot be written."""


@contextmanager
def writing(path: Path, option: str, advice: str = "") -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names the option and the path."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        reason = "the disk is full" if full else (error.strerror or str(error)).lower()
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = "a part of its path is a file, not a directory"
        remedy = f"free some space or give another {option}" if full else f"give another {option}"
        raise OutputError(f"{option}: cannot write {path}: {reason}; {remedy}{advice}") from error


def check_file(path: Path, option: str, inputs: Iterable[Path | None] = (), begins: str = "") -> None:
    """Raise OutputError when a file cannot be written at `path`, or would replace an input; makes its directory.

    `begins`: an existing file is replaced only if this is how it begins, white space aside.
    """
    if path.is_dir():
        raise OutputError(f"{option}: {path} is a directory; give a file name")
    if path.exists() and not path.is_file():
        raise OutputError(f"{option}: {path} is not a regular file; give a file name")
    with writing(path, option):
        check_replaceable(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
        _probe(path.parent)
    if not path.exists():
        return
    if any(given is not None and given.exists() and given.samefile(path) for given in inputs):
        raise OutputError(f"{option}: {path} is also an input; give another {option}")
    with path.open("rb") as file:
        start = file.read(PROBE_BYTES).strip()[:20].decode(errors="replace")
    if start and not start.lower().startswith(begins):
        raise OutputError(f"{option}: {path} exists and is not from an earlier run; delete it or give another {option}")


def check_directory(path: Path, option: str) -> None:
    """Raise OutputError when files cannot be written into the directory `path`; makes it."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{option}: {path} is a file; give a directory")
    with writing(path, option):
        _probe(path)


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Keep other runs from writing the same output meanwhile. Raises OutputError when one does already."""
    path = output.with_name(f".{output.name}.lock")
    with ExitStack() as stack:
        with writing(path, "--output"):
            try:
                stack.enter_context(hold(path))
            except BlockingIOError as error:
                raise OutputError(f"--output: {error.strerror} is writing {output}; give another --output") from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink()


def _probe(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def write_entries(entries: Sequence[dict[str, object]], path: Path, advice: str) -> None:
    """Write output.json, which appears whole.

    File names that are not valid text keep their bytes: a byte 0xe9 is written as the JSON escape of a lone surrogate,
    \\udce9, which Python's json reads back as the same name.
    """
    text = json.dumps(entries, indent=2, ensure_ascii=False)
    with writing(path, "--output", advice), write_and_rename(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_lines(rows: Sequence[Mapping[str, object]], path: Path, option: str) -> None:
    """Write a manifest, one JSON object a line, which appears whole. File names keep their bytes; see `write_entries`.

    Raises OutputError.
    """
    with writing(path, option), write_and_rename(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def print_content(content: str) -> None:
    """Write the content of a file to standard output: as it is, in UTF-8, unless that is a terminal."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None or sys.stdout.isatty():
        sys.stdout.write(content)
    else:
        sys.stdout.flush()
        raw.write(content.encode("utf-8", "surrogateescape"))
        raw.flush()


def relative_path(path: Path, directory: Path) -> str:
    """Return a path as a manifest in `directory` names it: relative to there, absolute on another drive."""
    try:
        return Path(os.path.relpath(path.absolute(), directory.absolute())).as_posix()
    except ValueError:
        return str(path.absolute())
