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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from types import NoneType

from tqdm import tqdm

from hw_asr.datasets.audio import duration
from hw_asr.datasets.manifest import UNREADABLE
from hw_asr.datasets.recording import AudioError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.download import waiting_lock
from hw_asr.runtime.printable import printable_line
from hw_asr.types import Selection, Utterance

logger = logging.getLogger(__name__)

VERSION = 2
NUM_THREADS = min(32, 4 * (os.cpu_count() or 1))
"""Reading headers waits for the disk and releases the interpreter lock."""
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
    with _locked(index_path):
        known = _load(index_path, state, directory)
        if known is not None:
            return Selection(_measured_again(known.utterances, source), known.dropped)
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
    """Return the path of the index of `directory`: in `index_dir`, or in the directory itself, where it is hidden."""
    index_dir = directory if index_dir is None else index_dir
    inside = directory.absolute() in (index_dir.absolute(), *index_dir.absolute().parents)
    return index_dir / f"{'.' * inside}{name}_index.jsonl"


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


def fingerprint(path: Path) -> str:
    """Return a digest of names, sizes and modification times: of a file, or of all files under a directory."""
    digest = hashlib.sha1(_line("", path.stat()).encode() if path.is_file() else b"", usedforsecurity=False)
    for name, entries in _directories(path) if path.is_dir() else ():
        lines = [f"{name}\n", *[_line(entry.name, entry.stat()) for entry in entries]]
        digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def files_under(directory: Path, extension: str = "") -> list[Path]:
    """Return the files under a directory whose names end in `extension` (lower case), sorted by name.

    Hidden files and dangling links are left out.
    """
    return sorted(
        directory / name / entry.name
        for name, entries in _directories(directory)
        for entry in entries
        if entry.name.lower().endswith(extension)
    )


def _directories(top: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield each directory from `top` downwards, by its relative path, with its files; hidden names are left out.

    The entries' `stat` may be called until the next directory is yielded: with an open descriptor of the directory the
    system does not look up the whole path for every file, which takes a third of the time.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        name, above = waiting.pop()
        try:
            descriptor = os.open(top / name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            logger.warning("%s: skipped, it cannot be opened: %s", top / name, error.strerror)
            continue
        try:
            stat = os.fstat(descriptor)
            identity = stat.st_dev, stat.st_ino
            if identity in above:  # a link to a directory it lies in
                continue
            with os.scandir(descriptor) as scanned:
                entries = sorted((entry for entry in scanned if entry.name[0] != "."), key=lambda entry: entry.name)
            waiting += [(f"{name}{entry.name}/", above | {identity}) for entry in entries if entry.is_dir()]
            yield name, [entry for entry in entries if entry.is_file()]
        finally:
            os.close(descriptor)


def _line(name: str, stat: os.stat_result) -> str:
    return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"


def _locked(index_path: Path) -> AbstractContextManager[None]:
    """Let one of several processes make the index; where nothing can be written there is nothing to wait for."""
    directory = next((parent for parent in index_path.parents if parent.exists()), Path())
    return waiting_lock(index_path) if os.access(directory, os.W_OK) else nullcontext()


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
