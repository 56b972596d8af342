"""A directory of recordings to mix into speech: noises, or impulse responses."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.datasets.audio import EXTENSIONS, duration, read_audio, read_recording
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.recording import AudioError, Piece, as_floats
from hw_asr.errors import UserError

MAX_CACHED_SECONDS = 1800
"""Decoded audio kept in memory: 115 MB at 16 kHz. Of other files, the section that is needed is decoded each time."""

_log = logging.getLogger(__name__)


class RecordingsError(UserError):
    """No recording of a directory can be decoded."""


class Recordings:
    """The recordings under a directory, decoded on first use.

    Raises ValueError, which starts with `argument`, the name of the setting, when there are none. A recording that
    cannot be decoded is named in the log once and skipped.
    """

    def __init__(self, argument: str, directory: Path, sample_rate: int) -> None:
        self._directory = directory
        self._sample_rate = sample_rate
        self._paths = [path for path in files_under(directory) if path.suffix.lower() in EXTENSIONS]
        self._cache: dict[Path, Tensor] = {}
        self._cached_seconds = 0.0
        self._seconds: dict[Path, float] = {}
        self._broken: set[Path] = set()
        if not self._paths:
            raise ValueError(
                f"{argument}: expected a directory with recordings (wav, flac, ...), but {directory} has none"
            )

    def pick(self, position: float, start: float = 0.0, size: int | None = None) -> Tensor:
        """Return the (T,) samples of the recording at `position` in [0, 1) of the list, or of the next readable one.

        Of a recording that is not kept in memory only `size` samples are returned, if it is longer: those at `start` in
        [0, 1) of the places where they can begin.
        """
        first = int(position * len(self._paths))
        for path in (*self._paths[first:], *self._paths[:first]):
            if path not in self._broken:
                try:
                    return self._read(path, start, size)
                except AudioError as error:
                    _log.warning("skipped: %s", error)
                    self._broken.add(path)
        raise RecordingsError(f"{self._directory}: none of its recordings can be decoded")

    def _read(self, path: Path, start: float, size: int | None) -> Tensor:
        if path in self._cache:
            return self._cache[path]
        if path not in self._seconds:
            self._seconds[path] = duration(path)
        seconds = self._seconds[path]
        section = seconds if size is None else size / self._sample_rate
        is_kept = self._cached_seconds + seconds <= MAX_CACHED_SECONDS
        if not is_kept and section < seconds:
            piece = Piece(start * (seconds - section), section)
            return torch.from_numpy(as_floats(read_recording(path, self._sample_rate, piece).samples))
        samples = torch.from_numpy(read_audio(path, self._sample_rate))
        if is_kept:
            self._cache[path] = samples
            self._cached_seconds += seconds
        return samples
