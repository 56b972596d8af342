"""Decodes recordings on threads while the model works; decoders release Python's global lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hw_asr.datasets.audio import read_recording
from hw_asr.datasets.recording import Piece, Recording
from hw_asr.errors import UserError
from hw_asr.types import Utterance

AHEAD = 2
"""Batches that are decoded in advance."""


class ReadUtterance(NamedTuple):
    """An utterance with its decoded recording, or one line that says why it could not be decoded."""

    utterance: Utterance
    recording: Recording | None
    reason: str = ""


def read_batches(
    batches: Sequence[Sequence[Utterance]], read: Callable[[Utterance], Recording], num_threads: int
) -> Iterator[list[ReadUtterance]]:
    """Yield the batches in their order, decoded by `read`; without threads, each when it is asked for.

    What `read` cannot decode raises UserError there; here it is a reason.
    """

    def attempt(utterance: Utterance) -> ReadUtterance:
        try:
            return ReadUtterance(utterance, read(utterance))
        except UserError as error:
            return ReadUtterance(utterance, None, " ".join(str(error).split()))

    if num_threads == 0:
        yield from ([attempt(utterance) for utterance in batch] for batch in batches)
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="reader")
    try:
        waiting: deque[list[Future[ReadUtterance]]] = deque()
        for batch in batches:
            waiting.append([pool.submit(attempt, utterance) for utterance in batch])
            if len(waiting) > AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def read_utterance(utterance: Utterance, sample_rate: int, max_audio_hours: float) -> Recording:
    """Decode the recording of an utterance, or the piece of it. Raises AudioError."""
    piece = None if utterance.offset is None else Piece(utterance.offset, utterance.duration or None)
    return read_recording(Path(utterance.audio_path), sample_rate, piece, max_audio_hours)
