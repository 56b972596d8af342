"""A directory of recordings to mix into speech: noises, or impulse responses."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.datasets.audio import EXTENSIONS, read_audio
from hw_asr.datasets.recording import AudioError
from hw_asr.errors import UserError

MAX_CACHED_SECONDS = 1800
"""Decoded audio kept in memory: 115 MB at 16 kHz. Beyond that, files are decoded each time."""

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
        self._paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in EXTENSIONS)
        self._cache: dict[Path, Tensor] = {}
        self._cached_samples = 0
        self._broken: set[Path] = set()
        if not self._paths:
            raise ValueError(
                f"{argument}: expected a directory with recordings (wav, flac, ...), but {directory} has none"
            )

    def pick(self, position: float) -> Tensor:
        """Return the (T,) samples of the recording at `position` in [0, 1) of the list, or of the next readable one."""
        first = int(position * len(self._paths))
        for path in (*self._paths[first:], *self._paths[:first]):
            if path not in self._broken:
                try:
                    return self._read(path)
                except AudioError as error:
                    _log.warning("skipped: %s", error)
                    self._broken.add(path)
        raise RecordingsError(f"{self._directory}: none of its recordings can be decoded")

    def _read(self, path: Path) -> Tensor:
        if path not in self._cache:
            samples = torch.from_numpy(read_audio(path, self._sample_rate))
            if self._cached_samples + len(samples) > MAX_CACHED_SECONDS * self._sample_rate:
                return samples
            self._cache[path] = samples
            self._cached_samples += len(samples)
        return self._cache[path]
