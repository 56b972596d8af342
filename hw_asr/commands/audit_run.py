"""The loop of an audit: recordings to entries, each saved at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from hw_asr.alignment.audit import fit_of
from hw_asr.commands.entries import entry_of, failed_entry
from hw_asr.commands.partial_results import PartialResults
from hw_asr.commands.reading import read_batches, read_utterance
from hw_asr.datasets.recording import Recording
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.decoders.alignment import words
from hw_asr.recognition.piece_decoder import Decode
from hw_asr.recognition.recogniser import Recogniser
from hw_asr.recognition.results import Result, alternatives_of
from hw_asr.types import Utterance

SOURCE = "audit"
"""Name of the only source in the partial results."""


class Auditor:
    """Scores the transcripts of recordings with one model."""

    def __init__(self, recogniser: Recogniser, argmax: Decode, max_audio_hours: float) -> None:
        self.recogniser, self._argmax, self._max_audio_hours = recogniser, argmax, max_audio_hours

    def read(self, utterance: Utterance) -> Recording:
        """Decode the recording of an utterance. Raises AudioError."""
        return read_utterance(utterance, self.recogniser.sample_rate, self._max_audio_hours)

    def entries(self, utterances: Sequence[Utterance], recordings: Sequence[Recording]) -> Iterator[dict[str, object]]:
        """Yield the entry of each utterance: that of `test.py`, with the fit of its text."""
        encoder, frame = self.recogniser.text_encoder, self.recogniser.seconds_per_frame
        all_log_probs = self.recogniser.log_probs(recordings)
        hypotheses = self._argmax(all_log_probs)
        for utterance, recording, log_probs, found in zip(
            utterances, recordings, all_log_probs, hypotheses, strict=True
        ):
            alternatives = alternatives_of(found)
            text = alternatives[0].text if alternatives else ""
            placed = tuple(words(log_probs.astype(np.float64), len(log_probs), text, encoder, frame))
            duration = len(recording.samples) / self.recogniser.sample_rate
            result = Result(
                text, duration, alternatives, placed, by_decoder={"argmax": alternatives}, warning=recording.warning
            )
            fit = fit_of(log_probs, utterance.text or "", encoder, frame)
            yield {**entry_of(utterance, result), **fit.to_dict(utterance.offset or 0.0), **_spelling(utterance.text)}


class SpelledText(str):
    """A normalised text that knows how it was spelled."""

    spelling: str

    @classmethod
    def of(cls, spelling: str, normalize: Callable[[str], str]) -> SpelledText:
        """Return a text normalised; one that is already is returned as it is."""
        if isinstance(spelling, cls):
            return spelling
        text = cls(normalize(spelling))
        text.spelling = spelling
        return text


def _spelling(text: str | None) -> dict[str, object]:
    """Return the entry's `text`, if normalisation has changed it."""
    return {"text": text.spelling} if isinstance(text, SpelledText) and text.spelling != text else {}


def audit(
    utterances: Sequence[Utterance], auditor: Auditor, partial: PartialResults, batch_size: int, num_threads: int
) -> list[dict[str, object]]:
    """Return one entry per utterance, in their order; those of an earlier run are not computed again."""
    entries = [partial.find(SOURCE, utterance) for utterance in utterances]
    missing = [index for index, entry in enumerate(entries) if entry is None]
    with tqdm(total=len(utterances), initial=len(utterances) - len(missing), unit="utterance", disable=None) as bar:
        numbered = [utterances[index]._replace(id=str(index)) for index in missing]
        for utterance, entry in _new_entries(numbered, auditor, batch_size, num_threads):
            index = int(utterance.id)
            partial.add(SOURCE, utterances[index], entry)
            entries[index] = entry
            bar.update()
    return [entry for entry in entries if entry is not None]


def _new_entries(
    utterances: Sequence[Utterance], auditor: Auditor, batch_size: int, num_threads: int
) -> Iterator[tuple[Utterance, dict[str, object]]]:
    """Yield the utterances with their entries, in batches of similar durations."""
    if not utterances:
        return
    sampler = SequentialBatchSampler(batch_size, Shard([utterance.duration for utterance in utterances]))
    batches = [[utterances[index] for index in batch] for batch in sampler]
    for batch in read_batches(batches, auditor.read, num_threads):
        for utterance, recording, reason in batch:
            if recording is None:
                yield utterance, failed_entry(utterance, reason)
        pairs = [(utterance, recording) for utterance, recording, _ in batch if recording is not None]
        if pairs:
            scored, recordings = zip(*pairs, strict=True)
            yield from zip(scored, auditor.entries(scored, recordings), strict=True)
