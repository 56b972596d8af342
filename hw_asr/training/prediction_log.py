"""Logs a table of predictions with audio, and a spectrogram."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hw_asr.batch import Batch
from hw_asr.metrics import text_errors
from hw_asr.training.step_result import Outputs
from hw_asr.types import CTCDecoder, TextEncoder, best_text
from hw_asr.writers.base import AudioClip, Writer

COLUMNS = ("utterance", "target", "raw", "argmax", "beam_search", "probability", "CER", "WER", "audio")
# Dark blue to yellow, as in viridis.
_COLOURS = torch.tensor(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=torch.float32
)


class PredictionLogger:
    """Logs the first utterances of a batch with their transcripts."""

    def __init__(
        self, writer: Writer, text_encoder: TextEncoder, decoders: Mapping[str, CTCDecoder], num: int, sample_rate: int
    ) -> None:
        self._writer = writer
        self._encoder = text_encoder
        self._decoders = decoders
        self._num = num
        self._sample_rate = sample_rate

    def log(self, step: int, batch: Batch, outputs: Outputs) -> None:
        """Log a table of predictions and the first spectrogram of the batch."""
        num = min(self._num, len(batch))
        log_probs, lengths = outputs.log_probs[:num].detach().cpu(), outputs.lengths[:num]
        argmax = [best_text(hypotheses) for hypotheses in self._decoders["argmax"](log_probs, lengths)]
        beams = self._decoders["beam_search"](log_probs, lengths)
        rows: list[list[object]] = []
        for index, utterance in enumerate(batch.utterances[:num]):
            path = log_probs[index, : int(lengths[index])].argmax(dim=-1).tolist()
            target = utterance.text or ""
            samples = batch.samples[index, : int(batch.sample_lengths[index])].cpu()
            beam = beams[index][0] if beams[index] else None
            errors = text_errors(target, argmax[index])
            rows.append([
                utterance.id, target, self._encoder.decode(path), argmax[index],
                beam.text if beam else "", math.exp(beam.log_prob) if beam else 0.0,
                errors.characters.rate, errors.words.rate,
                AudioClip(samples, self._sample_rate),
            ])  # fmt: skip
        self._writer.table(step, "predictions", COLUMNS, rows)
        frames = int(outputs.feature_lengths[0])
        self._writer.image(step, "spectrogram", picture(outputs.features[0, :, :frames].cpu()))


def picture(spectrogram: Tensor) -> Tensor:
    """Colour features (F, T) as pixels (F, T, 3) uint8, low frequencies at the bottom."""
    values = spectrogram.float().flip(0)
    low, high = values.min(), values.max()
    position = (values - low) / (high - low).clamp(min=1e-9) * (len(_COLOURS) - 1)
    index = position.long().clamp(max=len(_COLOURS) - 2)
    share = (position - index)[..., None]
    return (_COLOURS[index] * (1 - share) + _COLOURS[index + 1] * share).round().to(torch.uint8)


class NoPredictions:
    """Logs nothing, for runs without a writer that shows predictions."""

    def log(self, step: int, batch: Batch, outputs: Outputs) -> None:
        """Do nothing."""
