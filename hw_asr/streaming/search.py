"""Decoders that read a segment frame by frame and can return at any time what they have found so far."""

from __future__ import annotations

import copy
from typing import Protocol

from hw_asr.decoders.argmax import ArgmaxDecoder
from hw_asr.decoders.beam_search import PrefixSearch
from hw_asr.errors import UserError
from hw_asr.recognition.array_decoder import ArrayDecoder
from hw_asr.recognition.piece_decoder import Decode
from hw_asr.types import Hypothesis, LogProbs, TextEncoder


class LiveSearch(Protocol):
    """A search through the frames of one segment."""

    def accept(self, log_probs: LogProbs) -> None:
        """Read the next frames (t, V)."""

    def stable(self) -> str:
        """Return the text with which every text that can still be found begins."""

    def best(self) -> str:
        """Return the best text so far."""

    def copy(self) -> LiveSearch:
        """Return a search that continues on its own."""

    def finish(self, log_probs: LogProbs) -> list[Hypothesis]:
        """Return the hypotheses for the segment, whose frames (T, V) are given again for their exact probabilities."""


def live_search(decode: Decode, text_encoder: TextEncoder) -> LiveSearch:
    """Return a search for one segment. Raises UserError for a decoder that cannot read frame by frame."""
    decoder = decode.decoder if isinstance(decode, ArrayDecoder) else decode
    if isinstance(decode, ArrayDecoder) and isinstance(decoder, PrefixSearch):
        from hw_asr.streaming.beam import LiveBeamSearch  # the first import compiles

        return LiveBeamSearch(decoder, decode.lock, text_encoder)
    if isinstance(decoder, ArgmaxDecoder):
        return LiveArgmax(decode, text_encoder)
    name = getattr(decoder, "name", type(decoder).__name__)
    raise UserError(
        f"decoder {name!r} cannot recognise live audio, since it reads whole recordings only; use argmax, beam_search "
        "or lm_beam_search"
    )


class LiveArgmax:
    """The best class of every frame."""

    def __init__(self, decode: Decode, text_encoder: TextEncoder) -> None:
        self._decode, self._text_encoder = decode, text_encoder
        self._text, self._last = "", 0

    def accept(self, log_probs: LogProbs) -> None:
        """Read the next frames (t, V)."""
        labels = []
        for label in log_probs.argmax(axis=1).tolist():
            if label not in (0, self._last):
                labels.append(label)
            self._last = label
        self._text += self._text_encoder.decode(labels)

    def stable(self) -> str:
        """Return the text so far, of which nothing changes."""
        return self._text

    best = stable

    def copy(self) -> LiveArgmax:
        """Return a search that continues on its own."""
        return copy.copy(self)

    def finish(self, log_probs: LogProbs) -> list[Hypothesis]:
        """Return the one hypothesis with its exact probability."""
        return self._decode([log_probs])[0]
