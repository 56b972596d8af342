"""Recordings to transcripts with one model and one or several decoders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from hw_asr.datasets.recording import MAX_AUDIO_HOURS, Integers, Recording, Samples, as_floats
from hw_asr.decoders.alignment import words
from hw_asr.errors import UserError
from hw_asr.recognition.audio_input import Audio, read
from hw_asr.recognition.results import Alternative, Result, Segment, alternatives_of
from hw_asr.recognition.segments import cut_at_pauses, join_alternatives
from hw_asr.recognition.speech_activity import frames_with_speech, silenced, speech_steps
from hw_asr.recognition.timing import Seconds, Timed
from hw_asr.recognition.waveform_model import LogProbs, WaveformModel
from hw_asr.types import Hypothesis, TextEncoder, Word

if TYPE_CHECKING:
    from hw_asr.alignment.result import Alignment

Decode = Callable[[Sequence[LogProbs]], list[list[Hypothesis]]]
"""Maps the log-probabilities (T, V) of several recordings to the hypotheses of each, best first."""
BEST_FIRST = ("lm_beam_search", "beam_search", "argmax")
"""From the most to the least trusted: the first one there is gives the text and the words."""
PIECES_AT_ONCE = 8
"""Segments that are decoded together, on the decoder's threads."""


class Settings(NamedTuple):
    """How a `Recogniser` treats recordings."""

    chunk_seconds: float = 60.0
    """Longer recordings go through the network in overlapping chunks and are decoded in segments."""
    skip_silence: bool = True
    """Take no text from parts that do not rise above the recording's background noise."""
    batch_size: int = 8
    """Short recordings of a list that go through the network together."""
    max_audio_hours: float = MAX_AUDIO_HOURS
    """Longer recordings are refused."""


class Recogniser:
    """Transcribes recordings; `hw_asr.load` makes one from a checkpoint.

    A transcript does not depend on the batch a recording is in. Several threads may use the same object.
    """

    def __init__(self, model: WaveformModel, decoders: Mapping[str, Decode], settings: Settings = Settings()) -> None:  # noqa: B008
        self.sample_rate = model.sample_rate
        """Hz; recordings of other rates are resampled."""
        self.best_decoder = next((name for name in BEST_FIRST if name in decoders), next(iter(decoders)))
        """The decoder that `text`, `alternatives`, `words` and `segments` of a result come from."""
        self._model, self._decoders, self._settings = model, dict(decoders), settings
        alphabet = list(model.text_encoder.alphabet)
        self._space = alphabet.index(" ") if " " in alphabet else None

    # mypy takes a string, a path or an array for an iterable of recordings as well; the first signature wins.
    @overload
    def transcribe(self, audio: Audio, sample_rate: int | None = None) -> Result:  # type: ignore[overload-overlap]
        """Transcribe one recording."""

    @overload
    def transcribe(self, audio: Iterable[Audio], sample_rate: int | None = None) -> Iterator[Result]:
        """Transcribe several."""

    def transcribe(self, audio: Any, sample_rate: int | None = None) -> Result | Iterator[Result]:
        """Return the transcript of a recording, or a generator of the transcripts of several, in their order.

        A recording is a path or an array of mono samples (N,), floats in [-1, 1] or 16-bit integers; samples need
        their `sample_rate` in Hz. In a list, a recording that cannot be read gives a result with `error` set, and the
        others are transcribed.

        Raises hw_asr.Error for a single recording that cannot be read.
        """
        if isinstance(audio, (str, Path, np.ndarray)):
            return self.recognise(self.read(audio, sample_rate))
        return self._transcribe_many(iter(audio), sample_rate)

    def read(self, audio: Audio, sample_rate: int | None = None) -> Recording:
        """Read a recording at the model's sample rate; `sample_rate` is that of samples. Raises hw_asr.Error."""
        return read(audio, self.sample_rate, sample_rate, self._settings.chunk_seconds, self._settings.max_audio_hours)

    def recognise(
        self, recording: Recording, spent: Seconds | None = None, progress: Callable[[float], None] | None = None
    ) -> Result:
        """Transcribe one recording of any length, at the model's sample rate.

        `spent` is added to; `progress` is called with the seconds of audio that are done so far.
        """
        spent = Seconds() if spent is None else spent
        if not self.is_long(recording):
            return self.recognise_batch([recording], spent)[0]
        frame, decoded = self._model.seconds_per_frame, list[_Decoded]()
        log_probs = Timed(self._long(recording.samples))
        pieces = cut_at_pauses(log_probs, frame, self._space)
        while group := list(islice(pieces, PIECES_AT_ONCE)):
            starts = [piece.start * frame for piece in group]
            decoded += self._decode([piece.log_probs for piece in group], starts, spent)
            if progress is not None:
                progress((group[-1].start + len(group[-1].log_probs)) * frame)
        spent.model += log_probs.seconds
        return self._joined(decoded, recording, spent)

    def recognise_batch(self, recordings: Sequence[Recording], spent: Seconds) -> list[Result]:
        """Transcribe recordings that are not long, which go through the network together; `spent` is added to."""
        if not recordings:
            return []
        start = time.perf_counter()
        log_probs = self._batch(recordings)
        spent.model += time.perf_counter() - start
        decoded = self._decode(log_probs, [0.0] * len(log_probs), spent)
        return [self._joined([part], recording, spent) for part, recording in zip(decoded, recordings, strict=True)]

    def align(self, audio: Audio, text: str, sample_rate: int | None = None, *, forced: bool = False) -> Alignment:
        """Return where the words of `text` are in a recording of any length.

        Words that are not spoken and speech that is not in the text are found. With `forced`, the recording is exactly
        the text: every word gets a place.

        Raises hw_asr.Error for a recording that cannot be read, a text without any character of the alphabet and,
        with `forced`, a text that is too long for the recording.
        """
        from hw_asr.alignment.recordings import align_recording

        return align_recording(self, self.read(audio, sample_rate), text, forced=forced)

    def log_probs(
        self, recordings: Sequence[Recording], progress: Callable[[float], None] | None = None
    ) -> list[LogProbs]:
        """Return the log-probabilities (T, V) of recordings of any length; silence is the blank, with certainty.

        `progress` is called with the seconds of audio of a long recording that are done so far.
        """
        short = [recording for recording in recordings if not self.is_long(recording)]
        batch = iter(self._batch(short) if short else ())
        result = []
        for recording in recordings:
            if not self.is_long(recording):
                result.append(next(batch))
                continue
            blocks: list[LogProbs] = []
            for block in self._long(recording.samples):
                blocks.append(block)
                if progress is not None:
                    progress(sum(map(len, blocks)) * self.seconds_per_frame)
            result.append(np.concatenate(blocks))
        return result

    @property
    def seconds_per_frame(self) -> float:
        """Time between two frames of the log-probabilities."""
        return self._model.seconds_per_frame

    @property
    def text_encoder(self) -> TextEncoder:
        """The alphabet of the model and its normalisation of texts."""
        return self._model.text_encoder

    def is_long(self, recording: Recording) -> bool:
        """Whether a recording goes through the network in chunks."""
        return len(recording.samples) > self._settings.chunk_seconds * self.sample_rate

    def _transcribe_many(self, recordings: Iterator[Audio], sample_rate: int | None) -> Iterator[Result]:
        while group := list(islice(recordings, self._settings.batch_size)):
            results: dict[int, Result] = {}
            short: dict[int, Recording] = {}
            for index, audio in enumerate(group):
                try:
                    recording = self.read(audio, sample_rate)
                except UserError as error:
                    results[index] = Result("", 0.0, error=" ".join(str(error).split()))
                    continue
                if self.is_long(recording):
                    results[index] = self.recognise(recording)
                else:
                    short[index] = recording
            results.update(zip(short, self.recognise_batch(list(short.values()), Seconds()), strict=True))
            yield from (results[index] for index in range(len(group)))

    def _batch(self, recordings: Sequence[Recording]) -> list[LogProbs]:
        """Return the log-probabilities of recordings that are not long, without those of silence."""
        log_probs = self._model.batch([as_floats(recording.samples) for recording in recordings])
        if not self._settings.skip_silence:
            return log_probs
        speech = [speech_steps(recording.samples, self.sample_rate) for recording in recordings]
        frame = self._model.seconds_per_frame
        return [
            silenced(row, frames_with_speech(steps, 0, len(row), frame))
            for row, steps in zip(log_probs, speech, strict=True)
        ]

    def _long(self, samples: Samples | Integers) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording, without those of silence."""
        chunk_seconds = self._settings.chunk_seconds
        if not self._settings.skip_silence:
            yield from self._model.long(samples, chunk_seconds, None)
            return
        speech, first = speech_steps(samples, self.sample_rate), 0
        for log_probs in self._model.long(samples, chunk_seconds, speech):
            yield silenced(log_probs, frames_with_speech(speech, first, len(log_probs), self._model.seconds_per_frame))
            first += len(log_probs)

    def _decode(self, log_probs: Sequence[LogProbs], starts: Sequence[float], spent: Seconds) -> list[_Decoded]:
        """Decode frames that begin at these seconds of their recordings."""
        found: dict[str, list[list[Hypothesis]]] = {}
        for name, decode in self._decoders.items():
            start = time.perf_counter()
            found[name] = decode(log_probs)
            spent.decoding[name] = spent.decoding.get(name, 0.0) + time.perf_counter() - start
        result = []
        for index, (frames, offset) in enumerate(zip(log_probs, starts, strict=True)):
            by_decoder = {name: alternatives_of(hypotheses[index]) for name, hypotheses in found.items()}
            best = by_decoder[self.best_decoder]
            text = best[0].text if best else ""
            encoder, frame = self._model.text_encoder, self._model.seconds_per_frame
            spans = words(frames.astype(np.float64), len(frames), text, encoder, frame)
            result.append(_Decoded(by_decoder, [_moved(word, offset) for word in spans]))
        return result

    def _joined(self, parts: Sequence[_Decoded], recording: Recording, spent: Seconds) -> Result:
        """Return the result of a recording from its decoded parts, in their order."""
        duration = len(recording.samples) / self.sample_rate
        spent.audio += duration
        has_spaces = self._space is not None
        by_decoder = {
            name: parts[0].by_decoder[name]
            if len(parts) == 1
            else join_alternatives([part.by_decoder[name] for part in parts], has_spaces)
            for name in self._decoders
        }
        alternatives = by_decoder[self.best_decoder]
        segments = [
            Segment(placed[0].start, placed[-1].end, best[0].text.strip(), best[0].log_prob, placed)
            for part in parts
            if (best := part.by_decoder[self.best_decoder])
            and (placed := tuple(_within(word, duration) for word in part.words))
        ]
        return Result(
            alternatives[0].text if alternatives else "",
            duration,
            alternatives,
            tuple(word for segment in segments for word in segment.words),
            tuple(segments),
            by_decoder,
            recording.warning,
        )


class _Decoded(NamedTuple):
    """What the decoders make of consecutive frames."""

    by_decoder: dict[str, tuple[Alternative, ...]]
    words: list[Word]
    """Of the best decoder, on the recording's clock."""


def _moved(word: Word, seconds: float) -> Word:
    return Word(word.word, word.start + seconds, word.end + seconds, word.confidence)


def _within(word: Word, duration: float) -> Word:
    """Return a word that ends with the recording: its last frame may reach beyond it."""
    return Word(word.word, min(word.start, duration), min(word.end, duration), word.confidence)
