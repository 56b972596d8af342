"""Subtitles from words with times: SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hw_asr.report.results import ReportError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.types import Word

LINE_LENGTH = 42
MAX_LINES = 2
MAX_SECONDS = 7.0
MIN_SECONDS = 1.0
PAUSE_SECONDS = 0.8
"""A silence that ends a cue. The figures are those of common subtitling guidelines."""


class Cue(NamedTuple):
    """A subtitle shown from `start` to `end`, in milliseconds."""

    start: int
    end: int
    lines: list[str]


def cues(words: Sequence[Word], separator: str = " ") -> list[Cue]:
    """Group words, with `separator` between them, into cues that fit the screen and follow the pauses; none overlap.

    A cue shorter than a second is shown until the next one, for at most a second.
    """
    groups = list(_groups(words, separator))
    found: list[Cue] = []
    for index, group in enumerate(groups):
        start = _milliseconds(group[0].start)
        end = max(_milliseconds(group[-1].end), start + _milliseconds(MIN_SECONDS))
        if index + 1 < len(groups):
            end = min(end, _milliseconds(groups[index + 1][0].start))
        start = max(start, found[-1].end if found else 0)
        found.append(Cue(start, max(end, start + 1), _lines(_text(group, separator))))
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


def write_subtitles(words: Sequence[Word], path: Path) -> None:
    """Write subtitles in the format that the extension names; ReportError for another than .srt and .vtt."""
    formats = {".srt": to_srt, ".vtt": to_vtt}
    convert = formats.get(path.suffix.lower())
    if convert is None:
        raise ReportError(f"{path}: subtitles are written as .srt or .vtt")
    with write_and_rename(path, "w") as file:
        file.write(convert(words))


def _groups(words: Sequence[Word], separator: str) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and _must_break(group, word, separator):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _must_break(group: list[Word], word: Word, separator: str) -> bool:
    if word.start - group[-1].end >= PAUSE_SECONDS or word.end - group[0].start > MAX_SECONDS:
        return True
    return len(textwrap.wrap(_text([*group, word], separator), LINE_LENGTH)) > MAX_LINES


def _text(group: Sequence[Word], separator: str) -> str:
    return separator.join(" ".join(word.word.split()) for word in group)


def _lines(text: str) -> list[str]:
    """Break a cue's text as evenly as its length allows."""
    if len(text) <= LINE_LENGTH:
        return [text]
    widths = range(-(-len(text) // MAX_LINES), LINE_LENGTH + 1)
    attempts = (textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) for width in widths)
    fitting = (lines for lines in attempts if len(lines) <= MAX_LINES and max(map(len, lines)) <= LINE_LENGTH)
    return next(fitting, None) or textwrap.wrap(text, LINE_LENGTH)


def _milliseconds(seconds: float) -> int:
    return max(0, round(1000 * seconds))


def _clock(milliseconds: int, separator: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{rest:03d}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
