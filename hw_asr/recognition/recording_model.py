"""Recordings of any length to log-probabilities, without those of silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Recording, Samples, as_floats
from hw_asr.recognition.causal_speech import CausalSpeechDetector
from hw_asr.recognition.speech_activity import frames_with_speech, silenced, speech_steps
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.types import LogProbs


class RecordingModel:
    """Computes the log-probabilities of recordings; longer ones than `chunk_seconds` go through in chunks.

    With `skip_silence`, frames without speech are the blank, with certainty.
    """

    def __init__(self, model: WaveformModel, chunk_seconds: float, skip_silence: bool) -> None:
        self._model, self._chunk_seconds, self._skip_silence = model, chunk_seconds, skip_silence

    def is_long(self, recording: Recording) -> bool:
        """Whether a recording goes through the network in chunks."""
        return len(recording.samples) > self._chunk_seconds * self._model.sample_rate

    def log_probs(
        self, recordings: Sequence[Recording], progress: Callable[[float], None] | None = None
    ) -> list[LogProbs]:
        """Return the log-probabilities (T, V) of each recording.

        `progress` is called with the seconds of audio of a long recording that are done so far.
        """
        short = [recording for recording in recordings if not self.is_long(recording)]
        batch = iter(self.batch(short) if short else ())
        result = []
        for recording in recordings:
            if not self.is_long(recording):
                result.append(next(batch))
                continue
            blocks: list[LogProbs] = []
            for block in self.long(recording):
                blocks.append(block)
                if progress is not None:
                    progress(sum(map(len, blocks)) * self._model.seconds_per_frame)
            result.append(np.concatenate(blocks))
        return result

    def batch(self, recordings: Sequence[Recording]) -> list[LogProbs]:
        """Return the log-probabilities of recordings that are not long and go through the network together."""
        log_probs = self._model.batch([as_floats(recording.samples) for recording in recordings])
        if not self._skip_silence:
            return log_probs
        speech = [self._speech(recording.samples) for recording in recordings]
        frame = self._model.seconds_per_frame
        return [
            silenced(row, frames_with_speech(steps, 0, len(row), frame))
            for row, steps in zip(log_probs, speech, strict=True)
        ]

    def long(self, recording: Recording) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording in blocks of consecutive frames."""
        samples = recording.samples
        if not self._skip_silence:
            yield from self._model.long(samples, self._chunk_seconds, None)
            return
        speech, first = self._speech(samples), 0
        for log_probs in self._model.long(samples, self._chunk_seconds, speech):
            yield silenced(log_probs, frames_with_speech(speech, first, len(log_probs), self._model.seconds_per_frame))
            first += len(log_probs)

    def _speech(self, samples: Samples | Integers) -> NDArray[np.bool_]:
        """Return for each 20 ms whether there may be speech; for a live model, as it is found live."""
        if not self._model.is_causal:
            return speech_steps(samples, self._model.sample_rate)
        detector = CausalSpeechDetector(self._model.sample_rate)
        return np.concatenate([detector.accept(samples), detector.finish()])
