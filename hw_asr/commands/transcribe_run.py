"""The loop of `test.py`: recordings to entries, each saved at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from hw_asr.commands.entries import entry_of, failed_entry
from hw_asr.commands.partial_results import PartialResults
from hw_asr.commands.reading import ReadUtterance, read_batches, read_utterance
from hw_asr.commands.sources import Source
from hw_asr.datasets.recording import AudioError, Damage, Recording
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.errors import UserError
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.recognition.timing import Seconds
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.types import Utterance


class Reading(NamedTuple):
    """How recordings are read."""

    num_threads: int
    strict: bool
    """Whether damaged recordings are refused."""


class Transcriber:
    """Transcribes sources with one recogniser and saves every result at once."""

    def __init__(
        self,
        recogniser: Recogniser,
        model: WaveformModel,
        settings: Settings,
        partial: PartialResults,
        reading: Reading,
    ) -> None:
        self._recogniser, self._model, self._settings = recogniser, model, settings
        self._partial, self._reading = partial, reading

    def transcribe(self, source: Source) -> tuple[list[dict[str, object]], Seconds]:
        """Return one entry per utterance, in their order, and the time taken for those that are new."""
        normalize = self._model.text_encoder.normalize
        utterances = [
            utterance._replace(text=None if utterance.text is None else normalize(utterance.text))
            for utterance in source.utterances
        ]
        entries = [self._partial.find(source.name, utterance) for utterance in utterances]
        spent = Seconds()
        total = sum(utterance.duration for utterance in utterances)
        with _Progress(source.name, total, len(utterances)) as progress:
            for utterance, entry in zip(utterances, entries, strict=True):
                if entry is not None:
                    progress.finish(utterance)
            missing = [index for index, entry in enumerate(entries) if entry is None]
            numbered = [utterances[index]._replace(id=str(index)) for index in missing]
            for numbered_utterance, entry in self._new_entries(numbered, source, spent, progress):
                index = int(numbered_utterance.id)
                self._partial.add(source.name, utterances[index], entry)
                entries[index] = entry
                progress.finish(utterances[index])
        return [entry for entry in entries if entry is not None], spent

    def _new_entries(
        self, utterances: Sequence[Utterance], source: Source, spent: Seconds, progress: _Progress
    ) -> Iterator[tuple[Utterance, dict[str, object]]]:
        """Transcribe long recordings one at a time, then the others in batches of similar durations."""
        limit = self._settings.chunk_seconds
        for utterance in utterances:
            if utterance.duration > limit and utterance.offset is None:
                yield utterance, self._long_entry(utterance, spent, progress)
        short = [utterance for utterance in utterances if utterance.duration <= limit or utterance.offset is not None]
        if not short:
            return
        sampler = SequentialBatchSampler(source.batch_size, Shard([utterance.duration for utterance in short]))
        batches = [[short[index] for index in batch] for batch in sampler]
        for batch in read_batches(batches, self._read, self._reading.num_threads):
            yield from self._batch_entries(batch, spent)

    def _batch_entries(
        self, batch: Sequence[ReadUtterance], spent: Seconds
    ) -> Iterator[tuple[Utterance, dict[str, object]]]:
        """Transcribe a batch; recordings that are longer than their headers declare are transcribed one by one."""
        for utterance, recording, reason in batch:
            if recording is None:
                yield utterance, failed_entry(utterance, reason)
        pairs = [(utterance, recording) for utterance, recording, _ in batch if recording is not None]
        short = [pair for pair in pairs if not self._recogniser.is_long(pair[1])]
        results = self._recogniser.recognise_batch([recording for _, recording in short], spent)
        for (utterance, _), result in zip(short, results, strict=True):
            yield utterance, entry_of(utterance, result)
        for utterance, recording in pairs:
            if self._recogniser.is_long(recording):
                yield utterance, entry_of(utterance, self._recogniser.recognise(recording, spent))

    def _read(self, utterance: Utterance) -> Recording:
        recording = read_utterance(utterance, self._model.sample_rate, self._settings.max_audio_hours)
        if self._reading.strict and recording.damage is not Damage.NONE:
            raise AudioError(f"{utterance.audio_path}: {recording.warning}")
        return recording

    def _long_entry(self, utterance: Utterance, spent: Seconds, progress: _Progress) -> dict[str, object]:
        try:
            recording = self._recogniser.read(utterance.audio_path)
        except UserError as error:
            return failed_entry(utterance, " ".join(str(error).split()))
        if self._reading.strict and recording.damage is not Damage.NONE:
            return failed_entry(utterance, f"{utterance.audio_path}: {recording.warning}")
        return entry_of(utterance, self._recogniser.recognise(recording, spent, progress.within))


class _Progress:
    """A bar over seconds of audio, with the number of recordings."""

    def __init__(self, name: str, seconds: float, num_recordings: int) -> None:
        layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}{postfix}]"
        self._bar = tqdm(total=seconds, desc=name, bar_format=layout, disable=None)
        self._finished, self._num_recordings, self._seconds = 0, num_recordings, 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def within(self, seconds: float) -> None:
        """Show how many seconds of the current recording are done."""
        self._bar.n = self._seconds + seconds
        self._bar.refresh()

    def finish(self, utterance: Utterance) -> None:
        """Count a recording as done."""
        self._finished += 1
        self._seconds += utterance.duration
        self._bar.set_postfix_str(f"{self._finished}/{self._num_recordings} recordings", refresh=False)
        self._bar.n = self._seconds
        self._bar.update(0)
