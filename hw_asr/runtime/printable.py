"""Text of strangers on a terminal: control characters become escapes, so that they can neither act nor deceive.

File names, transcripts and server messages may hold them: C0 and C1 (ESC begins commands to the terminal, OSC among
them), marks that change the direction of text, line separators, and surrogates, which no terminal can print.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, TextIO

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_CONTROL}]")
_IN_LINE = re.compile(rf"[{_CONTROL}\n\t]")
_UP = "\x1b[A"
"""Moves the cursor up: how tqdm draws nested bars."""


def printable(text: str) -> str:
    r"""Return a text whose control characters, except newlines and tabs, are written as `\uXXXX`."""
    return _IN_TEXT.sub(_escape, text)


def printable_line(text: str) -> str:
    """Return a text as `printable` does, with escapes for newlines and tabs as well."""
    return _IN_LINE.sub(_escape, text)


def has_control_characters(text: str) -> bool:
    """Whether a text holds anything that `printable_line` would escape."""
    return _IN_LINE.search(text) is not None


def columns(text: str) -> int:
    """Return the width of a text on the screen: wide characters, as of Chinese, have two columns, and marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(character) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


class PrintableStream:
    """A text stream that escapes control characters on their way to `stream`, and is like it in all else.

    With `bars`, it lets pass what progress bars are drawn with: a return to the start of the line, and one line up.
    """

    def __init__(self, stream: TextIO, bars: bool = False) -> None:
        self._stream = stream
        self._bars = bars

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        if self._bars:
            parts = re.split(r"(\r|\x1b\[A)", text)
            escaped = "".join(part if part in ("\r", _UP) else printable(part) for part in parts)
        else:
            escaped = printable(text)
        self._stream.write(escaped)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
