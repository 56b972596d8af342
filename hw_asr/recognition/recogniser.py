"""Recordings to transcripts: what test.py writes into output.json."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import SequentialBatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.decoders.alignment import words
from hw_asr.experiment.network import Network
from hw_asr.metrics import text_errors
from hw_asr.models.forward import Emissions, emissions, run_model
from hw_asr.recognition.long_audio import long_log_probs
from hw_asr.types import Batch, CTCDecoder, Failure, Hypothesis, Utterance

# From the most to the least trusted: the first one there is gives the words.
_BEST_FIRST = ("lm_beam_search", "beam_search", "argmax")


@dataclass
class Seconds:
    """Where the time went, in seconds, against the seconds of audio."""

    audio: float = 0.0
    model: float = 0.0
    decoding: dict[str, float] = field(default_factory=dict)


class Recogniser:
    """Transcribes utterances with one network and several decoders.

    A transcript does not depend on the batch size or on the order: padding is invisible, and every decoder looks at one
    utterance at a time. Recordings longer than `chunk_seconds` are recognised by themselves, in overlapping pieces.
    """

    def __init__(
        self,
        network: Network,
        decoders: Mapping[str, CTCDecoder],
        sample_rate: int,
        device: torch.device,
        chunk_seconds: float = 60.0,
    ) -> None:
        self._chunk_seconds = chunk_seconds
        self._network = network
        self._decoders = decoders
        self._sample_rate = sample_rate
        self._device = device
        self._best = next((name for name in _BEST_FIRST if name in decoders), next(iter(decoders)))
        stride = 1000 / float(network.model.transform_input_lengths(torch.tensor([1000])))  # type: ignore[operator]
        self._time_stride = round(stride)
        self._seconds_per_frame = self._time_stride * network.front_end.hop_length / sample_rate
        self._seconds = Seconds()

    def transcribe(
        self, utterances: Sequence[Utterance], batch_size: int, num_workers: int, description: str = "recognising"
    ) -> tuple[list[dict[str, Any]], Seconds]:
        """Return one entry per utterance, in the order given, and the time taken.

        A recording that cannot be read gets an `error` instead of texts.
        """
        self._seconds = Seconds()
        normalize = self._network.text_encoder.normalize
        numbered = [
            each._replace(id=str(number), text=None if each.text is None else normalize(each.text))
            for number, each in enumerate(utterances)
        ]
        entries: list[dict[str, Any]] = [{} for _ in utterances]
        with tqdm(total=len(utterances), desc=description, unit="utterance", disable=None) as bar:
            for emission in self._timed(self._batches(numbered, batch_size, num_workers)):
                for failure in emission.batch.failures:
                    entries[int(failure.utterance.id)] = _failed(failure)
                for utterance, entry in self._entries(emission):
                    entries[int(utterance.id)] = entry
                bar.update(len(emission.batch) + len(emission.batch.failures))
        return entries, self._seconds

    def _batches(self, utterances: Sequence[Utterance], batch_size: int, num_workers: int) -> Iterator[Batch]:
        """Yield long recordings one at a time, then the others, similar durations together."""
        long = [each for each in utterances if each.duration > self._chunk_seconds]
        short = [each for each in utterances if each.duration <= self._chunk_seconds]
        for chosen, size in ((long, 1), (short, batch_size)):
            if chosen:
                dataset = SpeechDataset(chosen, self._network.text_encoder, self._sample_rate)
                sampler = SequentialBatchSampler(size, dataset.durations.tolist())
                yield from make_loader(dataset, sampler, min(num_workers, len(sampler)))

    def _timed(self, batches: Iterable[Batch]) -> Iterator[Emissions]:
        """Yield emissions on the CPU, counting the seconds that features and model take."""
        limit = self._chunk_seconds * self._sample_rate
        for batch in batches:
            start = time.perf_counter()
            if len(batch) == 1 and batch.samples.shape[1] > limit:
                emission = self._long(batch)
            else:
                (emission,) = emissions(self._network.model, self._network.front_end, [batch], self._device)
            emission = emission._replace(log_probs=emission.log_probs.cpu(), lengths=emission.lengths.cpu())
            self._seconds.model += time.perf_counter() - start
            self._seconds.audio += float(batch.sample_lengths.sum()) / self._sample_rate
            yield emission

    @torch.inference_mode()  # else every piece keeps all that the network computed for it
    def _long(self, batch: Batch) -> Emissions:
        """Return the emissions of one long recording, computed in pieces."""

        def log_probs_of(features: torch.Tensor) -> torch.Tensor:
            features = features.to(self._device)
            lengths = torch.tensor([features.shape[2]], device=self._device)
            return run_model(self._network.model, features, lengths, "fp32")[0][0]

        self._network.model.eval()
        samples = batch.samples[0].to(self._device)
        log_probs = long_log_probs(
            samples, self._network.front_end, log_probs_of, self._time_stride, self._sample_rate, self._chunk_seconds
        )
        return Emissions(batch, log_probs[None], torch.tensor([len(log_probs)]))

    def _entries(self, emission: Emissions) -> Iterator[tuple[Utterance, dict[str, Any]]]:
        found: dict[str, list[list[Hypothesis]]] = {}
        if len(emission.batch) == 0:
            return
        for name, decode in self._decoders.items():
            start = time.perf_counter()
            found[name] = decode(emission.log_probs, emission.lengths)
            self._seconds.decoding[name] = self._seconds.decoding.get(name, 0.0) + time.perf_counter() - start
        durations = (emission.batch.sample_lengths.cpu() / self._sample_rate).tolist()
        for index, utterance in enumerate(emission.batch.utterances):
            hypotheses = {name: each[index] for name, each in found.items()}
            frames = emission.log_probs[index, : int(emission.lengths[index])]
            yield utterance, self._entry(utterance, durations[index], hypotheses, frames)

    def _entry(
        self, utterance: Utterance, duration: float, hypotheses: Mapping[str, list[Hypothesis]], log_probs: torch.Tensor
    ) -> dict[str, Any]:
        texts = {name: each[0].text if each else "" for name, each in hypotheses.items()}
        entry: dict[str, Any] = {"audio_path": utterance.audio_path, "duration": round(duration, 3)}
        if utterance.speaker is not None:
            entry["speaker"] = utterance.speaker
        if utterance.text is not None:
            entry["ground_truth"] = utterance.text
        for name, each in hypotheses.items():
            beam = [[hypothesis.text, math.exp(hypothesis.log_prob)] for hypothesis in each]
            entry[f"pred_text_{name}"] = texts[name] if name == "argmax" else beam
        spans = words(log_probs, len(log_probs), texts[self._best], self._network.text_encoder, self._seconds_per_frame)
        entry["words"] = [
            {"word": word.word, "start": round(word.start, 3), "end": round(min(word.end, duration), 3),
             "confidence": round(word.confidence, 4)}
            for word in spans
        ]  # fmt: skip
        if utterance.text is not None:
            errors = {name: text_errors(utterance.text, text) for name, text in texts.items()}
            entry["cer"] = {name: counts.characters.rate for name, counts in errors.items()}
            entry["wer"] = {name: counts.words.rate for name, counts in errors.items()}
        return entry


def _failed(failure: Failure) -> dict[str, Any]:
    entry: dict[str, Any] = {"audio_path": failure.utterance.audio_path, "duration": None}
    if failure.utterance.text is not None:
        entry["ground_truth"] = failure.utterance.text
    return {**entry, "error": failure.reason}
