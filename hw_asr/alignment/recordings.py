"""From a recording and a text to an alignment, with a recogniser's model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw_asr.alignment.result import AlignedWord, Alignment, ExtraSpeech
from hw_asr.alignment.search import align_text
from hw_asr.alignment.transcript import read_transcript
from hw_asr.datasets.recording import Recording
from hw_asr.types import TextEncoder, Word

Progress = Callable[[float], None]


class Model(Protocol):
    """The part of a `Recogniser` that alignment needs."""

    sample_rate: int

    @property
    def seconds_per_frame(self) -> float:
        """Time between two frames of the log-probabilities."""

    @property
    def text_encoder(self) -> TextEncoder:
        """The alphabet and the normalisation of texts."""

    def log_probs(self, recordings: Sequence[Recording], progress: Progress | None = None) -> list[NDArray[np.float32]]:
        """Return the log-probabilities (T, V) of recordings."""


def align_recording(
    model: Model, recording: Recording, text: str, *, forced: bool = False, progress: Progress | None = None
) -> Alignment:
    """Align a text with a recording of any length; see `align_text`.

    `progress` is called with the seconds of a long recording that have gone through the network so far.

    Raises TranscriptError and AlignmentError.
    """
    transcript = read_transcript(text, model.text_encoder)
    (log_probs,) = model.log_probs([recording], progress)
    alignment = align_text(log_probs, transcript, model.text_encoder, model.seconds_per_frame, forced=forced)
    duration = len(recording.samples) / model.sample_rate
    return replace(
        alignment,
        words=tuple(_word_within(word, duration) for word in alignment.words),
        extra_speech=tuple(_stretch_within(stretch, duration) for stretch in alignment.extra_speech),
        duration=duration,
        warnings=tuple(warning for warning in (recording.warning, transcript.warning) if warning is not None),
    )


def _word_within(word: AlignedWord, duration: float) -> AlignedWord:
    """Return a word that ends with the recording: its last frame may reach beyond it."""
    if word.start is None or word.end is None or word.end <= duration:
        return word
    characters = tuple(
        Word(part.word, min(part.start, duration), min(part.end, duration), part.confidence) for part in word.characters
    )
    return replace(word, start=min(word.start, duration), end=duration, characters=characters)


def _stretch_within(stretch: ExtraSpeech, duration: float) -> ExtraSpeech:
    return replace(stretch, start=min(stretch.start, duration), end=min(stretch.end, duration))
