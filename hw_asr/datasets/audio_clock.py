"""Time stamps of a container to positions in the recording."""

from __future__ import annotations

GAP_SECONDS = 0.1
"""A time stamp at least this far after the end of the previous audio means a gap; less is jitter."""
MAX_GAP_SECONDS = 3600.0
JUMP_BACK_SECONDS = 1.0
"""A time stamp this far back starts another stream with its own clock."""


class Clock:
    """Places blocks of audio one after the other, with the silence that their time stamps ask for.

    Positions are compared with the time stamps themselves, not with those of the block before, so that small
    differences do not add up. Blocks that overlap follow each other: no audio is dropped.
    """

    def __init__(self, origin: float | None) -> None:
        self._origin = origin
        self.position = 0.0
        """Seconds of the recording up to the end of the last block."""
        self.silence = 0.0
        """Seconds of all gaps."""

    def gap_before(self, time: float | None, seconds: float) -> float:
        """Return the seconds of silence before a block of `seconds` at time stamp `time`, and move behind the block."""
        gap = 0.0
        if time is not None:
            if self._origin is None:
                self._origin = time - self.position
            gap = time - self._origin - self.position
            if not -JUMP_BACK_SECONDS <= gap <= MAX_GAP_SECONDS:
                self._origin, gap = time - self.position, 0.0
            gap = gap if gap >= GAP_SECONDS else 0.0
        self.silence += gap
        self.position += gap + seconds
        return gap
