"""How well a transcript fits its recording, by the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_asr.alignment.result import ExtraSpeech
from hw_asr.alignment.search import align_text
from hw_asr.alignment.transcript import TranscriptError, read_transcript
from hw_asr.types import TextEncoder


@dataclass(frozen=True)
class Fit:
    """How well a transcript fits a recording."""

    loss: float
    """Negative log-probability of the text, nats per character; infinite when it is too long for the recording."""
    confidence: float
    """Geometric mean of the probabilities of the aligned characters, from 0 to 1; 0 without any."""
    not_spoken: tuple[str, ...]
    """Words of the text that are not in the recording."""
    extra_speech: tuple[ExtraSpeech, ...]
    """Speech in the recording that is not in the text."""

    def to_dict(self, offset: float = 0.0) -> dict[str, object]:
        """Return plain data; an infinite loss is None, and `offset` seconds are added to the times."""
        return {
            "loss": round(self.loss, 4) if math.isfinite(self.loss) else None,
            "alignment_confidence": round(self.confidence, 4),
            "not_spoken": list(self.not_spoken),
            "extra_speech": [stretch.to_dict(offset) for stretch in self.extra_speech],
        }


def fit_of(log_probs: NDArray[np.float32], text: str, encoder: TextEncoder, seconds_per_frame: float) -> Fit:
    """Score a normalised text for log_probs (T, V). A text without characters is scored as silence."""
    from hw_asr.decoders.ctc_forward import labelling_log_likelihood

    labels = encoder.encode(text)
    loss = -labelling_log_likelihood(log_probs.astype(np.float64), labels) / max(1, len(labels))
    try:
        alignment = align_text(log_probs, read_transcript(text, encoder), encoder, seconds_per_frame)
    except TranscriptError:
        return Fit(loss, 0.0, (), ())
    characters = [part.confidence for word in alignment.words for part in word.characters]
    mean = sum(math.log(max(value, 1e-30)) for value in characters) / max(1, len(characters))
    not_spoken = tuple(word.word for word in alignment.words if word.spoken is False)
    return Fit(loss, math.exp(mean) if characters else 0.0, not_spoken, alignment.extra_speech)
