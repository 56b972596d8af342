"""Lists of utterances: parsing the rows of manifests, filtering, dropping what CTC cannot align."""

from __future__ import annotations

import logging
import operator
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hw_asr.errors import UserError
from hw_asr.types import Selection, TextEncoder, Utterance

logger = logging.getLogger(__name__)

UNREADABLE = 0.0
"""Duration of an utterance whose recording cannot be opened; decoding it gives a Failure with the reason."""

MAX_MALFORMED = 0.1

PATH_KEYS = ("path", "audio_path", "audio_filepath")
_KEYS = {
    "audio_path": PATH_KEYS,
    "text": ("text", "transcription", "sentence"),
    "duration": ("duration", "audio_len"),
    "offset": ("offset",),
    "id": ("id", "utterance_id"),
    "speaker": ("speaker", "speaker_id"),
}


class DataError(UserError):
    """Data that is missing or not usable."""


class Entry(NamedTuple):
    """A row of a manifest: its content, or a description of the fault in it."""

    place: str
    """Such as `line 7`."""
    content: Any = None
    problem: str | None = None


def parse_entries(entries: Iterable[Entry], directory: Path, source: str) -> Selection:
    """Turn entries with `path`, `text`, `duration`, `offset`, `id`, `speaker` into utterances, texts as they are.

    Only `path` is needed; it is relative to `directory`. With `offset` the utterance is a piece of a recording. A
    missing duration becomes UNREADABLE. Malformed entries are logged and counted. Raises DataError when they are more
    than a tenth of all.
    """
    utterances: list[Utterance] = []
    problems: list[str] = []
    for entry in entries:
        try:
            if entry.problem is not None:
                raise ValueError(entry.problem)
            utterances.append(_parse(entry.content, directory))
        except (TypeError, ValueError) as error:
            problems.append(f"{entry.place}: {error}")
    num_entries = len(utterances) + len(problems)
    if len(problems) > MAX_MALFORMED * num_entries:
        count = f"{len(problems)} of {num_entries} entries are malformed"
        raise DataError(f"{source}: {count}; at most a tenth may be; the first one is {problems[0]}")
    for problem in problems:
        logger.warning("%s: %s", source, problem)
    return Selection(utterances, {"entry malformed": len(problems)} if problems else {})


def _parse(content: object, directory: Path) -> Utterance:
    if not isinstance(content, Mapping):
        raise TypeError(f'expected an object such as {{"path": ..., "text": ...}}, got {content!r:.60}')
    given = {key: value for key, value in content.items() if value is not None}
    values = {name: next((given[key] for key in keys if key in given), None) for name, keys in _KEYS.items()}
    path = values["audio_path"]
    if not isinstance(path, str) or not path:
        raise TypeError(f"has no path: {dict(content)!r:.80}")
    try:
        is_possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise ValueError(f"path: no file can have the name {path!r:.80}")
    duration, offset = _seconds("duration", values["duration"]), _seconds("offset", values["offset"])
    if offset is not None and duration == 0:
        raise ValueError("duration: expected more than 0 s of the piece, or no duration for the rest, got 0")
    text, speaker, identifier = (_text(name, values[name]) for name in ("text", "speaker", "id"))
    if not identifier:
        identifier = path if offset is None else f"{path} at {offset:g} s for {duration or UNREADABLE:g} s"
    speaker = sys.intern(speaker) if speaker else None  # one string for all utterances of a speaker
    return Utterance(identifier, str(directory / path), text, duration or UNREADABLE, speaker, offset)


def _seconds(name: str, value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name}: expected seconds, got {value!r:.60}")
    return seconds


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if name != "text" and isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: not UTF-8: {value!r:.60}") from None
    return value


def consume(utterances: list[Utterance]) -> Iterator[Utterance]:
    """Yield the utterances in order and remove each from the list, so that its memory is free once it is processed."""
    utterances.reverse()
    while utterances:
        yield utterances.pop()


def select(
    utterances: Iterable[Utterance],
    normalize: Callable[[str], str],
    source: str,
    *,
    limit: int | None = None,
    max_audio_length: float | None = None,
    max_text_length: int | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Selection:
    """Normalise the texts; leave out utterances that are too long (seconds, characters), duplicate or without text.

    `limit` keeps the same sample every time, in the order given. `dropped` holds earlier counts, which are added to.
    Raises DataError when no utterance is left.
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
            is_same = text == utterance.text  # then one object less, of a million or more
            kept.append(utterance if is_same else Utterance(utterance.id, utterance.audio_path, text, *utterance[3:]))
    if limit is not None and limit < len(kept):
        chosen = sorted(random.Random(0).sample(range(len(kept)), limit))
        counts["over the limit"] += len(kept) - limit
        kept = [kept[index] for index in chosen]
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "it is empty"
        raise DataError(f"{source}: no utterance is left: {reasons}")
    return Selection(kept, dict(counts))


def split_alignable(
    utterances: Sequence[Utterance], text_encoder: TextEncoder, num_frames: Callable[[Sequence[float]], Sequence[int]]
) -> tuple[list[Utterance], Counter[str]]:
    """Keep the utterances CTC can learn from; count the others by reason.

    A text of L labels, R of them equal to the one before, needs L + R output frames (Graves et al. 2006);
    `num_frames` maps seconds to output frames of the model. It is called once: a call may cost more than an utterance.
    """
    kept: list[Utterance] = []
    dropped: Counter[str] = Counter()
    frames = num_frames([utterance.duration for utterance in utterances])
    for utterance, available in zip(utterances, frames, strict=True):
        if utterance.text is None:
            dropped["no text"] += 1
        elif utterance.duration == UNREADABLE:
            dropped["recording cannot be opened"] += 1
        elif not _fits(text_encoder.encode(utterance.text), available):
            dropped["too short for its text"] += 1
        else:
            kept.append(utterance)
    return kept, dropped


def _fits(labels: Sequence[int], num_frames: int) -> bool:
    """Whether labels can be aligned with this number of frames; repeats matter only for texts near the limit."""
    if 2 * len(labels) - 1 <= num_frames:
        return True
    num_repeated: int = sum(map(operator.eq, labels, islice(labels, 1, None)))
    return len(labels) + num_repeated <= num_frames
