"""One recording, recognised while it arrives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Samples
from hw_asr.errors import UserError
from hw_asr.recognition.audio_input import Buffer, as_samples, checked_samples, is_rate
from hw_asr.recognition.causal_speech import CausalSpeechDetector
from hw_asr.recognition.piece_decoder import PieceDecoder
from hw_asr.recognition.results import Result, Segment
from hw_asr.recognition.speech_activity import STEP_SECONDS, frames_with_speech, silenced
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.streaming.live_segments import LiveSegments
from hw_asr.types import LogProbs


class StreamError(UserError):
    """Audio cannot be recognised live."""


@dataclass(frozen=True)
class Partial:
    """The transcript of the part of a recording that was received."""

    stable: str
    """The beginning of the final text; it only grows."""
    tail: str
    """The best continuation so far; it may change with the next samples."""
    segments: tuple[Segment, ...]
    """Segments that have ended since the last call."""
    duration: float
    """Seconds of audio received."""
    num_ended: int = 0
    """How many characters of `stable` belong to segments that have ended."""

    @property
    def text(self) -> str:
        """The best text so far."""
        return self.stable + self.tail

    @property
    def current(self) -> str:
        """The best text of the segment that has not ended."""
        return self.text[self.num_ended :].lstrip()

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        segments = [segment.to_dict() for segment in self.segments]
        return {"stable": self.stable, "tail": self.tail, "segments": segments, "duration": self.duration}


def open_stream(
    model: WaveformModel, pieces: PieceDecoder, skip_silence: bool, sample_rate: int | None = None
) -> Stream:
    """Return a stream for samples of a rate in Hz, by default the model's.

    Raises StreamError for a model, UserError for a decoder, that needs whole recordings.
    """
    if model.live_obstacle is not None:
        raise StreamError(f"this model cannot recognise live audio: {model.live_obstacle}")
    if sample_rate is not None and not is_rate(sample_rate):
        raise StreamError(f"sample_rate: expected a positive number of Hz, got {sample_rate}")
    return Stream(model, pieces, skip_silence, sample_rate or model.sample_rate)


class Stream:
    """Recognises one recording whose samples arrive in pieces of any size; `Recogniser.stream` makes one.

    The final result is that of the whole recording, however it is cut. Its memory does not grow with the recording,
    except for the text. A stream is used by one thread at a time.
    """

    def __init__(self, model: WaveformModel, pieces: PieceDecoder, skip_silence: bool, sample_rate: int) -> None:
        self._network, self._pieces = model.live(), pieces
        self.sample_rate = sample_rate
        """Hz, of the samples to be given."""
        self.look_ahead_seconds = self._network.look_ahead_seconds
        """How much later than a sound the network can output its character; the tail of the text is this old."""
        self._rate, self._num_samples, self._is_open = model.sample_rate, 0, True
        self._detector = CausalSpeechDetector(model.sample_rate) if skip_silence else None
        self._speech: NDArray[np.bool_] = np.empty(0, bool)  # decisions from step `_first_step` on
        self._first_step = 0
        num_classes = len(pieces.text_encoder.alphabet)
        # Frames whose decision is not known, from frame `_frame` on.
        self._waiting: LogProbs = np.empty((0, num_classes), np.float32)
        self._frame = 0
        self._resampler = _resampler(sample_rate, model.sample_rate)
        self._segments = LiveSegments(pieces)

    def accept(self, samples: Buffer) -> Partial:
        """Take the next mono samples (N,), floats in [-1, 1] or 16-bit integers, and return the transcript so far.

        Raises hw_asr.Error for samples of another kind.
        """
        return self._advance(self._checked(samples), is_last=False)

    def finish(self) -> Result:
        """End the recording and return its transcript, as `transcribe` does."""
        self._advance(self._checked(np.empty(0, np.float32)), is_last=True)
        self._is_open = False
        return self._segments.result(self._num_samples / self._rate)

    def _checked(self, samples: Buffer) -> Samples:
        if not self._is_open:
            raise StreamError("the stream is finished; open another one for another recording")
        values = as_samples(samples)
        return checked_samples(values, self.sample_rate) if values.size else np.empty(0, np.float32)

    def _advance(self, samples: Samples, is_last: bool) -> Partial:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=is_last)
        self._num_samples += len(samples)
        log_probs = np.concatenate([self._waiting, self._network.push(samples, is_last)])
        known = len(log_probs)
        if self._detector is not None:
            steps = [self._speech, self._detector.accept(samples), *([self._detector.finish()] if is_last else [])]
            self._speech = np.concatenate(steps)
            log_probs, known = self._without_silence(log_probs, is_last)
        self._frame += known
        self._waiting = log_probs[known:]
        duration = self._num_samples / self._rate
        segments = self._segments.accept(log_probs[:known])
        if is_last:
            segments += self._segments.finish()
        stable = self._segments.stable()
        text = self._segments.with_tail(self._waiting)
        tail = text[len(stable) :] if text.startswith(stable) else ""
        return Partial(stable, tail, tuple(segments), duration, len(self._segments.text))

    def _without_silence(self, log_probs: LogProbs, is_last: bool) -> tuple[LogProbs, int]:
        """Silence frames without speech; return all waiting frames and the number of those that are decided."""
        frame, known = self._pieces.seconds_per_frame, len(log_probs)
        if not is_last:
            num_steps = self._first_step + len(self._speech)
            known = min(known, math.floor((num_steps + 1e-6) * STEP_SECONDS / frame) - self._frame)
        if known == 0:
            return log_probs, 0
        has_speech = frames_with_speech(self._speech, self._frame, known, frame, self._first_step)
        done = max(0, math.floor((self._frame + known) * frame / STEP_SECONDS) - 1 - self._first_step)
        self._speech, self._first_step = self._speech[done:], self._first_step + done
        return np.concatenate([silenced(log_probs[:known], has_speech), log_probs[known:]]), known


def _resampler(own_rate: int, rate: int) -> Any:
    if own_rate == rate:
        return None
    import soxr

    return soxr.ResampleStream(own_rate, rate, 1, dtype="float32", quality="HQ")
