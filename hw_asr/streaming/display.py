"""How live results are shown: a line that is repainted, plain lines, or JSON."""

from __future__ import annotations

import json
import shutil
from typing import Protocol, TextIO

from hw_asr.recognition.results import Result
from hw_asr.runtime.printable import columns, printable_line
from hw_asr.streaming.stream import Partial


class Display(Protocol):
    """Shows the results of one recording."""

    def show(self, partial: Partial) -> None:
        """Show the transcript so far."""

    def finish(self, result: Result) -> None:
        """Show the final result."""


class Lines:
    """One line for each segment when it has ended; with `status`, a terminal, the rest is repainted below."""

    def __init__(self, output: TextIO, status: TextIO | None = None) -> None:
        self._output, self._status = output, status
        self._num_shown = self._width = 0

    def show(self, partial: Partial) -> None:
        """Print the segments that have ended and repaint the text of the current one."""
        for segment in partial.segments:
            self._print(segment.text)
        self._paint(partial.current)

    def finish(self, result: Result) -> None:
        """Print the segments that have not been printed."""
        for segment in result.segments[self._num_shown :]:
            self._print(segment.text)
        self._paint("")

    def _print(self, text: str) -> None:
        self._paint("")
        print(printable_line(text), file=self._output, flush=True)
        self._num_shown += 1

    def _paint(self, text: str) -> None:
        """Replace the text at the end of the terminal, of which the last part is shown if it is too long."""
        if self._status is None or not (text or self._width):
            return
        room = shutil.get_terminal_size().columns - 1
        shown = printable_line(text)[-room:]
        while columns(shown) > room:
            shown = shown[1:]
        width = columns(shown)
        self._status.write("\r" + shown + " " * (self._width - width) + "\r" + shown)
        self._status.flush()
        self._width = width


class JsonLines:
    """One JSON object per line: `partial` when the text changes, `segment` when one has ended, `final` at the end."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._last: tuple[str, str] = ("", "")
        self._num_shown = 0

    def show(self, partial: Partial) -> None:
        """Print the segments that have ended, and the text of the current one if it has changed."""
        for segment in partial.segments:
            self._print("segment", segment.to_dict())
            self._num_shown += 1
        stable = partial.stable[partial.num_ended :].lstrip()
        if (stable, partial.tail) != self._last:
            self._last = (stable, partial.tail)
            self._print("partial", {"time": round(partial.duration, 3), "stable": stable, "tail": partial.tail})

    def finish(self, result: Result) -> None:
        """Print the segments that have not been printed and the whole result."""
        for segment in result.segments[self._num_shown :]:
            self._print("segment", segment.to_dict())
        self._print("final", result.to_dict())

    def _print(self, event: str, data: dict[str, object]) -> None:
        print(json.dumps({"event": event, **data}), file=self._output, flush=True)
