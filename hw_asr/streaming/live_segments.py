"""The segments of a recording, decoded while its frames arrive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hw_asr.recognition.piece_decoder import DecodedPiece, PieceDecoder
from hw_asr.recognition.results import Result, Segment
from hw_asr.recognition.segments import PauseCutter, Piece, join_texts
from hw_asr.streaming.search import live_search
from hw_asr.types import LogProbs


class LiveSegments:
    """Cuts the frames of a recording into segments and decodes them while they arrive."""

    def __init__(self, pieces: PieceDecoder) -> None:
        self._pieces = pieces
        self._cutter = PauseCutter(pieces.seconds_per_frame, pieces.space, pieces.limits)
        self._parts: list[DecodedPiece] = []
        self.text = ""
        """Of the segments that have ended."""
        self._start, self._held = 0, list[LogProbs]()
        self._search = live_search(pieces.decoders[pieces.best], pieces.text_encoder)

    def accept(self, log_probs: LogProbs) -> list[Segment]:
        """Read the next frames (t, V); return the segments that end in them."""
        segments, begin = list[Segment](), 0
        for cut in self._cutter.cuts(log_probs):
            self._read(log_probs[begin:cut])
            segments += self._end()
            begin = cut
        self._read(log_probs[begin:])
        return segments

    def finish(self) -> list[Segment]:
        """End the last segment."""
        return self._end() if any(map(len, self._held)) or not self._parts else []

    def result(self, duration: float) -> Result:
        """Return the result of all segments."""
        return self._pieces.joined(self._parts, duration)

    def stable(self) -> str:
        """Return the part of the text that does not change."""
        return self._joined(self._search.stable()).rstrip()

    def with_tail(self, log_probs: LogProbs) -> str:
        """Return the best text if these frames follow."""
        search = self._search
        if len(log_probs):
            search = search.copy()
            search.accept(log_probs)
        return self._joined(search.best())

    def _joined(self, text: str) -> str:
        has_spaces = self._pieces.space is not None
        return join_texts([self.text, text.lstrip() if has_spaces else text], has_spaces)

    def _read(self, log_probs: LogProbs) -> None:
        if len(log_probs) or not self._held:
            self._held.append(log_probs)
            self._search.accept(log_probs)

    def _end(self) -> list[Segment]:
        piece = Piece(self._start, np.concatenate(self._held))
        part = self._pieces.decoded(piece, {name: self._hypotheses(name, piece) for name in self._pieces.decoders})
        self._parts.append(part)
        best = part.by_decoder[self._pieces.best]
        self.text = join_texts([self.text, best[0].text if best else ""], self._pieces.space is not None)
        self._start, self._held = self._start + len(piece.log_probs), []
        self._search = live_search(self._pieces.decoders[self._pieces.best], self._pieces.text_encoder)
        segment = self._pieces.segment(part, math.inf)  # where the recording ends is not known
        return [] if segment is None else [segment]

    def _hypotheses(self, name: str, piece: Piece) -> Any:
        if name == self._pieces.best:
            return self._search.finish(piece.log_probs)
        return self._pieces.decoders[name]([piece.log_probs])[0]
