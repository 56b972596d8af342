"""Entries of output.json: the transcripts of a recording by every decoder, and its error rates."""

from __future__ import annotations

import math

from hw_asr.metrics import text_errors
from hw_asr.recognition.results import Result
from hw_asr.types import Utterance


def entry_of(utterance: Utterance, result: Result) -> dict[str, object]:
    """Return the entry of a transcribed utterance, with error rates if it has a reference.

    The times in a piece of a recording are those of the whole recording.
    """
    texts = {name: found[0].text if found else "" for name, found in result.by_decoder.items()}
    entry: dict[str, object] = {"audio_path": utterance.audio_path, "duration": round(result.duration, 3)}
    start = utterance.offset or 0.0
    if utterance.offset is not None:
        entry["offset"] = utterance.offset
    if utterance.speaker is not None:
        entry["speaker"] = utterance.speaker
    if utterance.text is not None:
        entry["ground_truth"] = utterance.text
    for name, found in result.by_decoder.items():
        beam = [[alternative.text, math.exp(alternative.log_prob)] for alternative in found]
        entry[f"pred_text_{name}"] = texts[name] if name == "argmax" else beam
    entry["words"] = [
        {"word": word.word, "start": round(start + word.start, 3), "end": round(start + word.end, 3),
         "confidence": round(word.confidence, 4)}
        for word in result.words
    ]  # fmt: skip
    entry["segments"] = [
        {"start": round(start + segment.start, 3), "end": round(start + segment.end, 3), "text": segment.text,
         "log_prob": segment.log_prob}
        for segment in result.segments
    ]  # fmt: skip
    if result.warning is not None:
        entry["warning"] = result.warning
    if utterance.text is not None:
        errors = {name: text_errors(utterance.text, text) for name, text in texts.items()}
        entry["cer"] = {name: counts.characters.rate for name, counts in errors.items()}
        entry["wer"] = {name: counts.words.rate for name, counts in errors.items()}
    return entry


def failed_entry(utterance: Utterance, reason: str) -> dict[str, object]:
    """Return the entry of an utterance that could not be read."""
    entry: dict[str, object] = {"audio_path": utterance.audio_path, "duration": None}
    if utterance.offset is not None:
        entry["offset"] = utterance.offset
    if utterance.text is not None:
        entry["ground_truth"] = utterance.text
    return {**entry, "error": reason}
