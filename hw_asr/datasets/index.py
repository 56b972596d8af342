"""The index: what a corpus on disk holds, found out once, in parallel, and kept as JSONL until the files change."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hw_asr.datasets.audio import duration
from hw_asr.datasets.manifest import UNREADABLE
from hw_asr.datasets.recording import AudioError
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.download import waiting_lock
from hw_asr.types import Utterance

logger = logging.getLogger(__name__)

VERSION = 1
NUM_THREADS = min(32, 4 * (os.cpu_count() or 1))
"""Reading headers waits for the disk and leaves Python to itself."""


def indexed(
    directory: Path,
    index_path: Path,
    scan: Callable[[Path], Iterable[Utterance]],
    source: str,
    texts_in: Path | None = None,
) -> list[Utterance]:
    """Return the utterances under `directory` with their durations, from the index where it is still true.

    `scan` lists the utterances without durations. It is called, and the recordings' headers are read, when a file was
    added, removed or changed since the index was written: under `directory`, or of `texts_in`, a directory or file.
    The index holds paths relative to `directory`, so both may be moved. Where it cannot be written the work is done
    each time.
    """
    state = fingerprint(directory) + (fingerprint(texts_in) if texts_in is not None else "")
    with _locked(index_path):
        known = _load(index_path, state, directory)
        if known is not None:
            return known
        utterances = measure(list(scan(directory)), source)
        try:
            with write_and_rename(index_path, "w") as file:
                file.write(json.dumps({"index": VERSION, "files": state}) + "\n")
                file.writelines(json.dumps(_entry(each, directory)) + "\n" for each in utterances)
        except OSError as error:
            reason = f"{index_path} cannot be written: {error.strerror}"
            logger.warning("%s: the index is not kept, %s; give index_dir", source, reason)
    return utterances


def path_of_index(directory: Path, index_dir: Path | None, name: str) -> Path:
    """Say where the index of what is in `directory` lies: in `index_dir`, or else hidden in the directory itself."""
    return directory / f".{name}_index.jsonl" if index_dir is None else index_dir / f"{name}_index.jsonl"


def measure(utterances: Sequence[Utterance], source: str) -> list[Utterance]:
    """Fill in durations from the recordings' headers; what cannot be opened is logged and becomes UNREADABLE."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        found = pool.map(_duration, [Path(utterance.audio_path) for utterance in utterances])
        results = list(tqdm(found, source, len(utterances), unit=" recordings", delay=2, disable=None))
    for result in results:
        if isinstance(result, AudioError):
            logger.warning("%s: %s", source, result)
    return [
        utterance._replace(duration=UNREADABLE if isinstance(result, AudioError) else result)
        for utterance, result in zip(utterances, results, strict=True)
    ]


def fingerprint(path: Path) -> str:
    """Return a digest of names, sizes and times of change: of a file, or of all under a directory but hidden ones."""
    digest = hashlib.sha1(_line("", path.stat()).encode() if path.is_file() else b"", usedforsecurity=False)
    for name, entries in _directories(path) if path.is_dir() else ():
        lines = [f"{name}\n", *[_line(entry.name, entry.stat()) for entry in entries]]
        digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def files_under(directory: Path, extensions: Container[str]) -> list[Path]:
    """Return the files under a directory with one of these extensions, in the order of their names.

    Extensions are lower case and begin with a dot. Hidden files and dangling links are left out.
    """
    found = [directory / name / entry.name for name, entries in _directories(directory) for entry in entries]
    return sorted(path for path in found if path.suffix.lower() in extensions)


def _directories(top: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield a directory and all below it, each by its path from `top`, with its files; nothing hidden, nothing closed.

    The entries can be asked for their `stat` until the next are: the descriptor they go by spares the system the way
    down the path for every file, a third of the time.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        name, above = waiting.pop()
        try:
            descriptor = os.open(top / name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            logger.warning("%s: passed over, it cannot be opened: %s", top / name, error.strerror)
            continue
        try:
            stat = os.fstat(descriptor)
            identity = stat.st_dev, stat.st_ino
            if identity in above:  # a link to a directory it lies in
                continue
            with os.scandir(descriptor) as found:
                entries = sorted([each for each in found if each.name[0] != "."], key=lambda each: each.name)
            waiting += [(f"{name}{each.name}/", above | {identity}) for each in entries if each.is_dir()]
            yield name, [each for each in entries if each.is_file()]
        finally:
            os.close(descriptor)


def _line(name: str, stat: os.stat_result) -> str:
    return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"


def _locked(index_path: Path) -> AbstractContextManager[None]:
    """Of several processes, one makes the index; where nothing can be written there is nothing to wait for."""
    directory = next((each for each in index_path.parents if each.exists()), Path())
    return waiting_lock(index_path) if os.access(directory, os.W_OK) else nullcontext()


def _duration(path: Path) -> float | AudioError:
    try:
        return duration(path)
    except AudioError as error:
        return error


def _load(index_path: Path, state: str, directory: Path) -> list[Utterance] | None:
    """Return the utterances of an index, None where there is none, it is of another state, or damaged."""
    try:
        with index_path.open(encoding="utf-8") as file, _no_collections():
            if json.loads(next(file)) != {"index": VERSION, "files": state}:
                return None
            # as one JSON list it is read in a third of the time that its lines take
            entries = json.loads(f"[{','.join(file)}]")
            root = f"{directory}/"
            return [Utterance(e["id"], root + e["path"], e["text"], e["duration"], e["speaker"]) for e in entries]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the garbage collector: it would walk a hundred thousand new tuples over and over, doubling the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _entry(utterance: Utterance, directory: Path) -> dict[str, Any]:
    return {
        "id": utterance.id,
        "path": Path(os.path.relpath(utterance.audio_path, directory)).as_posix(),
        "text": utterance.text,
        "duration": round(utterance.duration, 6),
        "speaker": utterance.speaker,
    }
