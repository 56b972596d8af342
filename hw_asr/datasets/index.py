"""The index: what a corpus on disk holds, found out once, in parallel, and kept as JSONL until the files change."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hw_asr.datasets.audio import EXTENSIONS, duration
from hw_asr.datasets.manifest import UNREADABLE
from hw_asr.datasets.recording import AudioError
from hw_asr.download import waiting_lock
from hw_asr.files import write_and_rename
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
        found = pool.map(_duration, [utterance.audio_path for utterance in utterances])
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
    digest = hashlib.sha1(usedforsecurity=False)
    for name, stat in [("", path.stat())] if path.is_file() else ((each.path, each.stat()) for each in walk(path)):
        line = f"{name.removeprefix(str(path))}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files under a directory in the order of their names, hidden ones and dangling links left out."""
    with os.scandir(directory) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from walk(Path(entry.path))
        elif entry.is_file():
            yield entry


def audio_files(directory: Path) -> list[Path]:
    """Return the recordings under a directory, by extension, in the order of their names."""
    return [path for path in (Path(entry.path) for entry in walk(directory)) if path.suffix.lower() in EXTENSIONS]


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
            return [_utterance(entry, directory) for entry in json.loads(f"[{','.join(file)}]")]
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


def _utterance(entry: Any, directory: Path) -> Utterance:
    return Utterance(entry["id"], directory / entry["path"], entry["text"], entry["duration"], entry["speaker"])


def _entry(utterance: Utterance, directory: Path) -> dict[str, Any]:
    return {
        "id": utterance.id,
        "path": Path(os.path.relpath(utterance.audio_path, directory)).as_posix(),
        "text": utterance.text,
        "duration": round(utterance.duration, 6),
        "speaker": utterance.speaker,
    }
