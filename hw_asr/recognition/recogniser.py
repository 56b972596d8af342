"""Recordings to transcripts with one model and one or several decoders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from hw_asr.datasets.recording import MAX_AUDIO_HOURS, Recording
from hw_asr.errors import UserError
from hw_asr.recognition.audio_input import Audio, is_one, read
from hw_asr.recognition.piece_decoder import Decode, DecodedPiece, PieceDecoder
from hw_asr.recognition.recording_model import RecordingModel
from hw_asr.recognition.results import Result
from hw_asr.recognition.segments import Piece, cut_at_pauses, cut_causally
from hw_asr.recognition.timing import Seconds, Timed
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.types import LogProbs, TextEncoder

if TYPE_CHECKING:
    from hw_asr.alignment.result import Alignment
    from hw_asr.streaming.stream import Stream

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
        self._model, self._settings, self._pieces = model, settings, PieceDecoder(model, decoders)
        self._recordings = RecordingModel(model, settings.chunk_seconds, settings.skip_silence)
        self.best_decoder = self._pieces.best
        """The decoder that `text`, `alternatives`, `words` and `segments` of a result come from."""
        self._is_causal = model.is_causal

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
        others are transcribed. What an iterator of recordings raises comes after the results of those before.

        Raises hw_asr.Error for a single recording that cannot be read.
        """
        if is_one(audio):
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
        frame, decoded = self._model.seconds_per_frame, list[DecodedPiece]()
        log_probs = Timed(self._recordings.long(recording))
        pieces = self._cut(log_probs) if self._is_causal else cut_at_pauses(log_probs, frame, self._pieces.space)
        while group := list(islice(pieces, PIECES_AT_ONCE)):
            decoded += self._pieces.decode(group, spent)
            if progress is not None:
                progress((group[-1].start + len(group[-1].log_probs)) * frame)
        spent.model += log_probs.seconds
        return self._joined(decoded, recording, spent)

    def recognise_batch(self, recordings: Sequence[Recording], spent: Seconds) -> list[Result]:
        """Transcribe recordings that are not long, which go through the network together; `spent` is added to."""
        if not recordings:
            return []
        start = time.perf_counter()
        log_probs = self._recordings.batch(recordings)
        spent.model += time.perf_counter() - start
        pieces = [list(self._cut([row])) if self._is_causal else [Piece(0, row)] for row in log_probs]
        decoded = iter(self._pieces.decode([piece for parts in pieces for piece in parts], spent))
        return [
            self._joined(list(islice(decoded, len(parts))), recording, spent)
            for parts, recording in zip(pieces, recordings, strict=True)
        ]

    def stream(self, sample_rate: int | None = None) -> Stream:
        """Return a recognition of audio that arrives in pieces, for a model that needs no later audio.

        Its final result is that of `transcribe` for the whole recording. `sample_rate` is that of the samples, Hz; the
        default is the model's.

        Raises hw_asr.Error for a model or decoder that cannot do this; the message says which can.
        """
        from hw_asr.streaming.stream import open_stream

        return open_stream(self._model, self._pieces, self._settings.skip_silence, sample_rate)

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
        return self._recordings.log_probs(recordings, progress)

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
        return self._recordings.is_long(recording)

    def _transcribe_many(self, recordings: Iterator[Audio], sample_rate: int | None) -> Iterator[Result]:
        for group in _grouped(recordings, self._settings.batch_size):
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

    def _cut(self, log_probs: Iterable[LogProbs]) -> Iterator[Piece]:
        return cut_causally(log_probs, self._model.seconds_per_frame, self._pieces.space, self._pieces.limits)

    def _joined(self, parts: Sequence[DecodedPiece], recording: Recording, spent: Seconds) -> Result:
        """Return the result of a recording from its decoded parts, in their order."""
        duration = len(recording.samples) / self.sample_rate
        spent.audio += duration
        return self._pieces.joined(parts, duration, recording.warning)


def _grouped(recordings: Iterator[Audio], size: int) -> Iterator[list[Audio]]:
    """Yield lists of up to `size`; what the iterator raises is raised after what it has given before."""
    failure: Exception | None = None
    while failure is None:
        group: list[Audio] = []
        try:
            for audio in islice(recordings, size):
                group.append(audio)
        except Exception as error:
            failure = error
        if group:
            yield group
        elif failure is None:
            return
    raise failure
