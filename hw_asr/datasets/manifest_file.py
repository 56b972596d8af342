"""Reading manifest files (JSON, JSONL, CSV, TSV) row by row, so that a malformed row does not affect others."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

from hw_asr.datasets.audio import EXTENSIONS
from hw_asr.datasets.manifest import PATH_KEYS, DataError, Entry

MAX_LINES = 100
"""Lines that one quoted row of a table may have; a quotation mark that is never closed costs no more."""
_MAX_VALUE = 2**31 - 1
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_manifest(path: Path) -> Iterator[Entry]:
    """Yield the entries of a JSON list, JSONL (one object a line), CSV or TSV (with a header line).

    Bytes that are not UTF-8 become surrogates, as in file names. JSONL is read line by line, since the objects of a
    large manifest take several times the memory of its utterances. Raises DataError for a file that cannot be read.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file; expected a manifest")
    try:
        with path.open("rb") as file:
            yield from _entries(file, path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read the manifest: {getattr(error, 'strerror', None) or error}") from error


def _entries(file: BufferedReader, path: Path) -> Iterator[Entry]:
    start = file.read(len(codecs.BOM_UTF8))
    if start.startswith(_UTF_16):
        raise DataError(f"{path}: the manifest is UTF-16; save it as UTF-8")
    begin = len(start) if start == codecs.BOM_UTF8 else 0
    file.seek(begin)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from parse_table(_decode(file.read()), "\t" if suffix == ".tsv" else ",", str(path))
        return
    first_line = next((line for line in map(_decode, file) if line.strip()), "")
    file.seek(begin)
    if first_line.lstrip().startswith("["):
        yield from _parse_json(_decode(file.read()), path)
        return
    for number, line in enumerate(map(_decode, file), 1):
        if line.strip():
            yield _parse_line(number, line)


def _decode(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def parse_table(
    text: str, delimiter: str, source: str, quoted: bool = True, needed: Collection[str] = ()
) -> Iterator[Entry]:
    """Yield the rows below the header as mappings; a row needs one value for each column.

    With `quoted`, a value in quotation marks may hold delimiters and line breaks. In a CSV file, a mark that is not
    closed makes its row malformed; in a TSV file it is a character like any other. Raises DataError without a header
    that has a column for the path and the `needed` ones.
    """
    csv.field_size_limit(_MAX_VALUE)
    lines = io.StringIO(text, newline="").readlines()
    try:
        header = next(csv.reader(lines[:1], delimiter=delimiter), [])
    except csv.Error as error:  # a NUL before Python 3.11, or a field that is too large
        raise DataError(f"{source}: the header line cannot be read: {error}") from error
    columns = [name.strip() for name in header]
    if not set(PATH_KEYS) & set(columns) or not set(needed) <= set(columns):
        expected = " and ".join([" or ".join(PATH_KEYS), *needed])
        raise DataError(
            f"{source}: expected a header line with the columns {expected}, got {columns!r:.200}"
            f"{_delimiter_hint(lines, delimiter)}"
        )
    doubled = sorted({name for name in columns if name and columns.count(name) > 1})
    if doubled:
        raise DataError(f"{source}: more than one column is named {', '.join(doubled)}")
    yield from _Table(lines, columns, delimiter, quoted).rows(strip=header != columns)


def _delimiter_hint(lines: Sequence[str], delimiter: str) -> str:
    """Return what to do if the columns of a header line are separated by another character."""
    for other, advice in ((";", "save it with commas"), ("\t", "name it .tsv"), (",", "name it .csv")):
        names = lines[0].split(other) if lines and other != delimiter else []
        if set(PATH_KEYS) & {name.strip(' "\r\n') for name in names}:
            return f"; its columns are separated by {other!r}: {advice}"
    return ""


class _Table:
    """The lines of a table and how they are read."""

    def __init__(self, lines: Sequence[str], columns: list[str], delimiter: str, quoted: bool) -> None:
        self._lines, self._columns, self._delimiter, self._quoted = lines, columns, delimiter, quoted
        self._path_column = next(index for index, name in enumerate(columns) if name in PATH_KEYS)

    def rows(self, strip: bool) -> Iterator[Entry]:
        """Yield the entries; `strip` removes blanks around the values, as there are around the names."""
        position = 1
        while position < len(self._lines):
            if not self._lines[position].strip():
                position += 1
                continue
            place = f"line {position + 1}"
            values, num_lines = self._read(position)
            if values is None:
                yield Entry(place, problem="an unmatched quotation mark")
            elif len(values) != len(self._columns):
                yield Entry(place, problem=f"expected {len(self._columns)} values, got {len(values)}")
            else:
                values = [value.strip(" ") for value in values] if strip else values
                # A table cannot distinguish an empty text from none.
                yield Entry(place, {name: value or None for name, value in zip(self._columns, values, strict=True)})
            position += num_lines

    def _read(self, position: int) -> tuple[list[str] | None, int]:
        """Return the values of the row that begins at a line, None when its quotation marks do not match."""
        if self._quoted:
            lines = self._lines[position : position + MAX_LINES]
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True, skipinitialspace=self._delimiter == ",")
            try:
                values = next(reader)
                if not self._swallows_rows(position, reader.line_num):
                    return values, reader.line_num
            except csv.Error:
                pass
            if self._delimiter == ",":
                return None, 1
        try:
            return next(csv.reader([self._lines[position]], delimiter=self._delimiter, quoting=csv.QUOTE_NONE)), 1
        except csv.Error as error:  # before Python 3.11, a NUL
            return [str(error)], 1

    def _swallows_rows(self, position: int, num_lines: int) -> bool:
        """Whether one of the lines inside a quoted value is a row by itself."""
        for line in self._lines[position + 1 : position + num_lines]:
            values = line.strip("\r\n").split(self._delimiter)
            if len(values) == len(self._columns) and Path(values[self._path_column]).suffix.lower() in EXTENSIONS:
                return True
        return False


def _parse_line(number: int, line: str) -> Entry:
    try:
        return Entry(f"line {number}", json.loads(line))
    except (ValueError, RecursionError) as error:
        return Entry(f"line {number}", problem=f"not JSON: {getattr(error, 'msg', None) or error}")


def _parse_json(text: str, path: Path) -> Iterator[Entry]:
    try:
        objects = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    return as_entries(objects)


def as_entries(objects: Iterable[Mapping[str, object]]) -> Iterator[Entry]:
    """Number the objects of a list."""
    return (Entry(f"entry {number}", content) for number, content in enumerate(objects, 1))
