"""Subtitles from words with times: SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

from hw_asr.report.results import ReportError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.printable import columns
from hw_asr.text.characters import characters_of, continues
from hw_asr.types import Word

LINE_LENGTH = 42
"""Columns; a Chinese character has two."""
MAX_LINES = 2
MAX_SECONDS = 7.0
MIN_SECONDS = 1.0
PAUSE_SECONDS = 0.8
"""A silence that ends a cue. The figures are those of common subtitling guidelines."""
_SPACES = re.compile(r"(?<= )")
_SPACES_AND_HYPHENS = re.compile(r"(?<= )|(?<=[^\W\d]{2}-)(?=[^\W\d]{2})")
"""Places where a line may end."""


class Cue(NamedTuple):
    """A subtitle shown from `start` to `end`, in milliseconds."""

    start: int
    end: int
    lines: list[str]


def cues(words: Sequence[Word], separator: str = " ") -> list[Cue]:
    """Group words, with `separator` between them, into cues that fit the screen and follow the pauses; none overlap.

    A cue shorter than a second is shown until the next one, for at most a second.
    """
    groups = list(_groups(_units(words, separator), separator))
    found: list[Cue] = []
    for index, group in enumerate(groups):
        start = _milliseconds(group[0].start)
        end = max(_milliseconds(group[-1].end), start + _milliseconds(MIN_SECONDS))
        if index + 1 < len(groups):
            end = min(end, _milliseconds(groups[index + 1][0].start))
        start = max(start, found[-1].end if found else 0)
        found.append(Cue(start, max(end, start + 1), _lines(group, separator)))
    return found


def to_srt(words: Sequence[Word], separator: str = " ") -> str:
    """Return a SubRip file."""
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues(words, separator), start=1)
    )
    return "\n".join(blocks)


def to_vtt(words: Sequence[Word], separator: str = " ") -> str:
    """Return a WebVTT file."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n" + "\n".join(map(_escaped, cue.lines)) + "\n"
        for cue in cues(words, separator)
    )
    return "\n".join(["WEBVTT\n", *blocks])


def write_subtitles(words: Sequence[Word], path: Path, separator: str = " ") -> None:
    """Write subtitles in the format that the extension names; ReportError for another than .srt and .vtt."""
    formats = {".srt": to_srt, ".vtt": to_vtt}
    convert = formats.get(path.suffix.lower())
    if convert is None:
        raise ReportError(f"{path}: subtitles are written as .srt or .vtt")
    with write_and_rename(path, "w") as file:
        file.write(convert(words, separator))


def _units(words: Sequence[Word], separator: str) -> list[Word]:
    """Return what a cue may begin with: words with the marks that follow, and parts of words too long for a cue."""
    units: list[Word] = []
    for word in words:
        text = " ".join(word.word.split())
        if units and not separator and continues(units[-1].word, text[:1]):
            before = units[-1]
            units[-1] = replace(before, word=before.word + text, end=max(before.end, word.end))
        elif text:
            units.append(replace(word, word=text))
    return [part for unit in units for part in _parts(unit)]


def _parts(word: Word) -> Iterator[Word]:
    """Cut a word that is too long for a cue, such as a phrase of Thai, into equal parts; times are in proportion."""
    total = columns(word.word)
    if total <= MAX_LINES * LINE_LENGTH:
        yield word
        return
    num_parts = -(-total // (MAX_LINES * LINE_LENGTH - 2))  # a wide character leaves a column at the end of a line
    seconds, characters = (word.end - word.start) / total, characters_of(word.word)
    placed = zip(characters, accumulate(map(columns, characters)), strict=True)
    begin = 0
    for _, group in groupby(placed, key=lambda pair: max(0, pair[1] - 1) * num_parts // total):
        part, ends = zip(*group, strict=True)
        times = word.start + seconds * begin, word.start + seconds * ends[-1]
        yield Word("".join(part).strip(), *times, word.confidence)
        begin = ends[-1]


def _groups(units: Sequence[Word], separator: str) -> Iterator[list[Word]]:
    group: list[Word] = []
    for unit in units:
        group.append(unit)
        while cut := _cut(group, separator):
            yield group[:cut]
            group = group[cut:]
    if group:
        yield group


def _cut(group: Sequence[Word], separator: str) -> int:
    """Return how many units of a group, whose last one is new, make a cue; 0 if all fit into one.

    Characters are cut at the longest pause in the second half: most likely between words.
    """
    last = len(group) - 1
    if last and group[last].start - group[last - 1].end >= PAUSE_SECONDS:
        return last
    if not last or (group[last].end - group[0].start <= MAX_SECONDS and _pieces(group, separator)):
        return 0
    if separator:
        return last
    pauses = {place: round(group[place].start - group[place - 1].end, 3) for place in range(last // 2 + 1, last + 1)}
    return max(pauses, key=lambda place: (pauses[place], place))


def _pieces(group: Sequence[Word], separator: str) -> list[str] | None:
    """Split the text of a cue where its lines may end, at hyphens only if it does not fit otherwise; None: too long."""
    for places in (_SPACES, _SPACES_AND_HYPHENS):
        pieces = [piece for unit in group for piece in places.split(unit.word + separator) if piece]
        if _fits(_filled(pieces, LINE_LENGTH)):
            return pieces
    return None


def _lines(group: Sequence[Word], separator: str) -> list[str]:
    """Break the text of a cue as evenly as its length allows; a word that does not fit, anywhere."""
    pieces = _pieces(group, separator) or characters_of(group[0].word)
    lines = _filled(pieces, LINE_LENGTH)
    if len(lines) == 1:
        return lines
    widths = range(-(-columns("".join(pieces).rstrip()) // MAX_LINES), LINE_LENGTH)
    return next(filter(_fits, (_filled(pieces, width) for width in widths)), lines)


def _filled(pieces: Sequence[str], width: int) -> list[str]:
    lines, room = list[str](), -1
    for piece in pieces:
        if columns(piece.rstrip()) > room:
            lines.append("")
            room = width
        lines[-1] += piece
        room -= columns(piece)
    return [line.rstrip() for line in lines]


def _fits(lines: Sequence[str]) -> bool:
    return len(lines) <= MAX_LINES and all(columns(line) <= LINE_LENGTH for line in lines)


def _milliseconds(seconds: float) -> int:
    return max(0, round(1000 * seconds))


def _clock(milliseconds: int, separator: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{rest:03d}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
