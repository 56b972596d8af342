"""Decodes consecutive pieces of a recording and joins what is found to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.alignment import words
from hw_asr.recognition.results import Alternative, Result, Segment, alternatives_of
from hw_asr.recognition.segments import Limits, Piece, join_alternatives
from hw_asr.recognition.timing import Seconds
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.types import Hypothesis, LogProbs, Word

Decode = Callable[[Sequence[LogProbs]], list[list[Hypothesis]]]
"""Maps the log-probabilities (T, V) of several recordings to the hypotheses of each, best first."""
BEST_FIRST = ("lm_beam_search", "beam_search", "argmax")
"""From the most to the least trusted: the first one there is gives the text and the words."""


class DecodedPiece(NamedTuple):
    """What the decoders make of consecutive frames."""

    by_decoder: dict[str, tuple[Alternative, ...]]
    words: list[Word]
    """Of the best decoder, on the recording's clock."""


class PieceDecoder:
    """Several decoders and the alignment of words, for the outputs of one model."""

    def __init__(self, model: WaveformModel, decoders: Mapping[str, Decode]) -> None:
        self.decoders = dict(decoders)
        self.best = next((name for name in BEST_FIRST if name in decoders), next(iter(decoders)))
        """The decoder whose texts count."""
        self.text_encoder, self.seconds_per_frame = model.text_encoder, model.seconds_per_frame
        alphabet = list(model.text_encoder.alphabet)
        self.space = alphabet.index(" ") if " " in alphabet else None
        """The class of the space, None where the alphabet has none."""
        self.limits = Limits()
        """How long the segments of live models are."""
        self._is_causal = model.is_causal

    def decode(self, pieces: Sequence[Piece], spent: Seconds) -> list[DecodedPiece]:
        """Decode pieces of one recording or of several; `spent` is added to."""
        log_probs = [piece.log_probs for piece in pieces]
        by_decoder: dict[str, list[list[Hypothesis]]] = {}
        for name, decode in self.decoders.items():
            start = time.perf_counter()
            by_decoder[name] = decode(log_probs)
            spent.decoding[name] = spent.decoding.get(name, 0.0) + time.perf_counter() - start
        return [
            self.decoded(piece, {name: hypotheses[index] for name, hypotheses in by_decoder.items()})
            for index, piece in enumerate(pieces)
        ]

    def decoded(self, piece: Piece, hypotheses: Mapping[str, Sequence[Hypothesis]]) -> DecodedPiece:
        """Return a piece for which each decoder has found these hypotheses."""
        by_decoder = {name: alternatives_of(texts) for name, texts in hypotheses.items()}
        best = by_decoder[self.best]
        frames, text = piece.log_probs.astype(np.float64), best[0].text if best else ""
        placed = words(frames, len(frames), text, self.text_encoder, self.seconds_per_frame)
        offset = piece.start * self.seconds_per_frame
        return DecodedPiece(by_decoder, [_moved(word, offset) for word in placed])

    def segment(self, part: DecodedPiece, duration: float) -> Segment | None:
        """Return the segment of a piece of a recording of some seconds; None without words."""
        best = part.by_decoder[self.best]
        placed = tuple(_within(word, duration) for word in part.words)
        if not best or not placed:
            return None
        return Segment(placed[0].start, placed[-1].end, best[0].text.strip(), best[0].log_prob, placed)

    def joined(self, parts: Sequence[DecodedPiece], duration: float, warning: str | None = None) -> Result:
        """Return the result of a recording from its pieces, in their order."""
        by_decoder = {
            name: parts[0].by_decoder[name]
            if len(parts) == 1 and not self._is_causal
            else join_alternatives([part.by_decoder[name] for part in parts], self.space is not None)
            for name in self.decoders
        }
        alternatives = by_decoder[self.best]
        segments = [segment for part in parts if (segment := self.segment(part, duration)) is not None]
        return Result(
            alternatives[0].text if alternatives else "",
            duration,
            alternatives,
            tuple(word for segment in segments for word in segment.words),
            tuple(segments),
            by_decoder,
            warning,
        )


def _moved(word: Word, seconds: float) -> Word:
    return Word(word.word, word.start + seconds, word.end + seconds, word.confidence)


def _within(word: Word, duration: float) -> Word:
    """Return a word that ends with the recording: its last frame may reach beyond it."""
    return Word(word.word, min(word.start, duration), min(word.end, duration), word.confidence)
