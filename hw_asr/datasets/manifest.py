"""Lists of utterances: reading JSON, JSONL and CSV, filtering, dropping what CTC cannot align; nothing is decoded."""

from __future__ import annotations

import csv
import io
import json
import logging
import operator
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hw_asr.errors import UserError
from hw_asr.types import Selection, TextEncoder, Utterance

logger = logging.getLogger(__name__)

UNREADABLE = 0.0
"""Duration of an utterance whose recording could not be opened; decoding it gives a Failure with the reason."""

_KEYS = {
    "audio_path": ("path", "audio_path", "audio_filepath"),
    "text": ("text", "transcription", "sentence"),
    "duration": ("duration", "audio_len"),
    "id": ("id", "utterance_id"),
    "speaker": ("speaker", "speaker_id"),
}


class DataError(UserError):
    """Data that is not there or not usable."""


def read_objects(path: Path) -> list[Mapping[str, Any]]:
    """Read the objects of a manifest: a JSON list, JSONL (one object a line), CSV or TSV with a header line.

    Raises DataError naming the file and, where there is one, the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the manifest: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the manifest is not UTF-8: {error.reason} at byte {error.start}") from error
    if path.suffix.lower() in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    try:
        if text.lstrip().startswith("["):
            objects: list[Mapping[str, Any]] = json.loads(text)
            return objects
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    objects = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                objects.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON: {error.msg}") from error
    return objects


def parse_objects(objects: Iterable[Any], directory: Path, source: str) -> tuple[list[Utterance], int]:
    """Turn objects with `path`, `text`, `duration`, `id`, `speaker` into utterances, texts as they are.

    Only `path` is needed; it is relative to `directory`. A missing duration becomes UNREADABLE. Objects that cannot
    be utterances are logged and counted in the second result.
    """
    utterances, malformed = [], 0
    for number, entry in enumerate(objects, 1):
        try:
            utterances.append(_parse(entry, directory))
        except (TypeError, ValueError) as error:
            malformed += 1
            logger.warning("%s: entry %d: %s", source, number, error)
    return utterances, malformed


def _parse(entry: Any, directory: Path) -> Utterance:
    if not isinstance(entry, Mapping):
        raise TypeError(f'expected an object such as {{"path": ..., "text": ...}}, got {entry!r:.60}')
    found = {name: next((entry[key] for key in keys if key in entry), None) for name, keys in _KEYS.items()}
    path, text, seconds = found["audio_path"], found["text"], found["duration"]
    if not isinstance(path, str) or not path:
        raise TypeError(f"has no path: {dict(entry)!r:.80}")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"text: expected a string, got {text!r:.60}")
    duration = UNREADABLE if seconds in (None, "") else float(seconds)
    if not 0 <= duration < float("inf"):
        raise ValueError(f"duration: expected seconds, got {seconds!r:.60}")
    identifier = path if found["id"] in (None, "") else str(found["id"])
    speaker = None if found["speaker"] in (None, "") else str(found["speaker"])
    return Utterance(identifier, str(directory / path), text, duration, speaker)


def select(
    utterances: Sequence[Utterance],
    normalize: Callable[[str], str],
    source: str,
    *,
    limit: int | None = None,
    max_audio_length: float | None = None,
    max_text_length: int | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Selection:
    """Normalise the texts and leave out what is too long (seconds, characters), doubled or has nothing to learn from.

    `limit` keeps a sample that is the same every time, in the order given. `dropped` counts what was left out before.
    Raises DataError when nothing remains.
    """
    counts = Counter(dropped or {})
    kept: list[Utterance] = []
    seen: set[str] = set()
    for utterance in utterances:
        if max_audio_length is not None and utterance.duration > max_audio_length:
            counts[f"longer than {max_audio_length:g} s"] += 1
            continue
        if utterance.id in seen:
            counts["id occurs twice"] += 1
            logger.warning("%s: id %r occurs twice; only the first one is used", source, utterance.id)
            continue
        seen.add(utterance.id)
        text = None if utterance.text is None else normalize(utterance.text)
        if text is not None and max_text_length is not None and len(text) > max_text_length:
            counts[f"text longer than {max_text_length} characters"] += 1
        elif text == "" and utterance.text and not utterance.text.isspace():
            counts["no character of the alphabet in the text"] += 1
            logger.warning("%s: %s: no character of %r is in the alphabet", source, utterance.id, utterance.text)
        else:
            kept.append(Utterance(utterance.id, utterance.audio_path, text, utterance.duration, utterance.speaker))
    if limit is not None and limit < len(kept):
        chosen = sorted(random.Random(0).sample(range(len(kept)), limit))
        counts["over the limit"] += len(kept) - limit
        kept = [kept[index] for index in chosen]
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "it is empty"
        raise DataError(f"{source}: no utterance is left: {reasons}")
    return Selection(kept, dict(counts))


def split_alignable(
    utterances: Iterable[Utterance], text_encoder: TextEncoder, num_frames: Callable[[float], int]
) -> tuple[list[Utterance], Counter[str]]:
    """Keep the utterances CTC can learn from; count the others by reason.

    A text of L labels, R of them equal to the one before, needs L + R output frames (Graves et al. 2006);
    `num_frames` maps seconds to output frames of the model.
    """
    kept: list[Utterance] = []
    dropped: Counter[str] = Counter()
    for utterance in utterances:
        if utterance.text is None:
            dropped["no text"] += 1
        elif utterance.duration == UNREADABLE:
            dropped["recording cannot be opened"] += 1
        elif not _fits(text_encoder.encode(utterance.text), num_frames(utterance.duration)):
            dropped["too short for its text"] += 1
        else:
            kept.append(utterance)
    return kept, dropped


def _fits(labels: Sequence[int], num_frames: int) -> bool:
    """Whether labels can be aligned with so many frames; only few texts are so near the border that repeats decide."""
    if 2 * len(labels) - 1 <= num_frames:
        return True
    num_repeated: int = sum(map(operator.eq, labels, islice(labels, 1, None)))
    return len(labels) + num_repeated <= num_frames
