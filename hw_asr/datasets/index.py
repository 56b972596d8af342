"""The index: what a corpus on disk contains, determined once, in parallel, and kept as JSONL until files change."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import NoneType

from tqdm import tqdm

from hw_asr.datasets.audio import duration
from hw_asr.datasets.directories import fingerprint
from hw_asr.datasets.manifest import UNREADABLE
from hw_asr.datasets.recording import AudioError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.download import DownloadError, waiting_lock
from hw_asr.runtime.printable import printable_line
from hw_asr.types import Selection, Utterance

logger = logging.getLogger(__name__)

VERSION = 2
NUM_THREADS = min(32, 4 * (os.cpu_count() or 1))
"""Reading headers waits for the disk and releases the interpreter lock."""
MAX_NAME_BYTES = 200
"""Of a corpus, in the name of its index, which has at most 255 with the name of a temporary or a lock file."""
NUM_QUEUED = 1000
"""Recordings queued at a time; a queued task takes 1.5 KB."""


def indexed(
    directory: Path,
    index_path: Path,
    scan: Callable[[Path], Selection | Iterable[Utterance]],
    source: str,
    texts_in: Path | None = None,
) -> Selection:
    """Return the utterances under `directory` with their durations, from the index while it is up to date.

    `scan` lists the utterances without durations, and what it had to leave out. It is called, and the recordings are
    measured, when a file was added, removed or changed since the index was written: under `directory`, or of
    `texts_in`, a directory or file. The index holds paths relative to `directory`, so both may be moved. Where it
    cannot be written, the work is repeated each time.
    """
    state = fingerprint(directory) + (fingerprint(texts_in) if texts_in is not None else "")
    known = _load(index_path, state, directory)
    if known is not None:
        return Selection(_measured_again(known.utterances, source), known.dropped)
    with _locked(index_path):
        known = _load(index_path, state, directory)  # of another process, which had the lock
        if known is not None:
            return known
        listed = scan(directory)
        listed, left_out = listed if isinstance(listed, Selection) else Selection(list(listed), {})
        utterances = measure(listed, source)
        try:
            with write_and_rename(index_path, "w") as file:
                file.write(json.dumps({"index": VERSION, "files": state, "left_out": left_out}) + "\n")
                file.writelines(json.dumps(_entry(utterance, directory)) + "\n" for utterance in utterances)
        except OSError as error:
            reason = f"{index_path} cannot be written: {error.strerror}"
            logger.warning("%s: the index is not kept, %s; set index_dir", source, reason)
    return Selection(utterances, left_out)


def path_of_index(directory: Path, index_dir: Path | None, name: str) -> Path:
    """Return the path of the index of `directory`, a hidden file: in `index_dir`, or in the directory itself.

    In `index_dir` the name has a digest of the directory's path, as several corpora may share it. A long name is
    shortened.
    """
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore")
    if index_dir is None:
        return directory / f".{name}_index.jsonl"
    path = os.fsencode(directory.absolute())
    return index_dir / f".{name}_{hashlib.sha1(path, usedforsecurity=False).hexdigest()[:8]}_index.jsonl"


def measure(utterances: Sequence[Utterance], source: str) -> list[Utterance]:
    """Fill in durations from the recordings; what cannot be opened is logged and becomes UNREADABLE."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        starts = range(0, len(utterances), NUM_QUEUED)
        durations = chain.from_iterable(pool.map(_duration, utterances[at : at + NUM_QUEUED]) for at in starts)
        results = list(
            tqdm(durations, printable_line(source), len(utterances), unit=" recordings", delay=2, disable=None)
        )
    for result in results:
        if isinstance(result, AudioError):
            logger.warning("%s: %s", source, result)
    return [
        utterance._replace(duration=UNREADABLE if isinstance(result, AudioError) else result)
        for utterance, result in zip(utterances, results, strict=True)
    ]


def _measured_again(utterances: list[Utterance], source: str) -> list[Utterance]:
    """Measure what could not be opened when the index was made: access rights change without a trace in the files."""
    places = [place for place, utterance in enumerate(utterances) if utterance.duration == UNREADABLE]
    if places:
        utterances = list(utterances)
        for place, utterance in zip(places, measure([utterances[place] for place in places], source), strict=True):
            utterances[place] = utterance
    return utterances


@contextmanager
def _locked(index_path: Path) -> Iterator[None]:
    """Let one of several processes make the index; each makes it where the lock cannot be opened."""
    with ExitStack() as stack:
        with suppress(DownloadError):
            stack.enter_context(waiting_lock(index_path))
        yield


def _duration(utterance: Utterance) -> float | AudioError:
    try:
        seconds = duration(Path(utterance.audio_path)) - (utterance.offset or 0.0)
    except AudioError as error:
        return error
    if utterance.offset is not None and seconds <= 0:
        return AudioError(f"{utterance.audio_path}: ends before the piece at {utterance.offset:g} s")
    return seconds


def _load(index_path: Path, state: str, directory: Path) -> Selection | None:
    """Return the content of an index, None if it is missing, out of date or damaged."""
    try:
        with index_path.open(encoding="utf-8") as file, _no_collections():
            header = json.loads(next(file))
            if (header["index"], header["files"]) != (VERSION, state):
                return None
            # as one JSON list it is read in a third of the time that its lines take
            entries = json.loads(f"[{','.join(file)}]")
            if any(".." in e["path"].split("/") for e in entries):  # of a stranger: it leads out of the directory
                return None
            root = f"{directory}/"
            utterances = [Utterance(e["id"], root + e["path"], e["text"], e["duration"], e["speaker"]) for e in entries]
            left_out = header["left_out"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration):
        return None
    is_valid = isinstance(left_out, dict) and all(type(count) is int for count in left_out.values())
    return Selection(utterances, left_out) if is_valid and all(map(_is_valid, utterances)) else None


def _is_valid(utterance: Utterance) -> bool:
    """Whether an utterance of an index, which may come with a stranger's recordings, is one that `indexed` writes."""
    identifier, _, text, duration, speaker, _ = utterance
    is_text = type(identifier) is str and isinstance(text, (str, NoneType)) and isinstance(speaker, (str, NoneType))
    is_duration = type(duration) in (int, float) and 0 <= duration < math.inf
    return is_text and is_duration


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the garbage collector: it would visit a hundred thousand new tuples repeatedly, doubling the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _entry(utterance: Utterance, directory: Path) -> dict[str, object]:
    return {
        "id": utterance.id,
        "path": Path(os.path.relpath(utterance.audio_path, directory)).as_posix(),
        "text": utterance.text,
        "duration": round(utterance.duration, 6),
        "speaker": utterance.speaker,
    }
