"""What can be transcribed: paths and arrays of samples, as blocks at the model's sample rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError
from hw_asr.recognition.waveform_model import Samples

Audio = str | Path | NDArray[Any]
"""A path, or samples (N,): floats in [-1, 1] or 16-bit integers."""
BLOCK_SECONDS = 30


class SamplesError(UserError):
    """Samples that are not a mono recording."""


class AudioInput:
    """One recording that is read once, in blocks (n,) at `sample_rate` Hz."""

    def __init__(
        self, blocks: Iterable[Samples], sample_rate: int, warning: Callable[[], str | None] = lambda: None
    ) -> None:
        self._blocks, self._sample_rate, self._warning = iter(blocks), sample_rate, warning
        self._head: list[Samples] = []

    def whole(self, seconds: float) -> Samples | None:
        """Return all samples of a recording that lasts at most `seconds`, None for a longer one; loses nothing."""
        count = sum(map(len, self._head))
        for block in self._blocks:
            self._head.append(block)
            count += len(block)
            if count > seconds * self._sample_rate:
                return None
        if count > seconds * self._sample_rate:
            return None
        return np.concatenate([np.empty(0, np.float32), *self._head])

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples; those that `whole` has read come first."""
        head, self._head = self._head, []
        return chain(_emptying(head), self._blocks)

    @property
    def warning(self) -> str | None:
        """What the reader found wrong; complete when all blocks have been read."""
        return self._warning()


def open_audio(audio: Audio, sample_rate: int, own_rate: int | None = None) -> AudioInput:
    """Open a recording to be read at `sample_rate` Hz; `own_rate` is that of samples.

    Raises AudioError for a file that cannot be read, perhaps only from the blocks, and SamplesError for samples that
    are not a mono recording.
    """
    if isinstance(audio, (str, Path)):
        from hw_asr.datasets.audio import read_recording

        recording = read_recording(Path(audio), sample_rate)
        samples, warning = recording.samples, recording.warning
    else:
        samples, warning = _checked(audio, own_rate), None
        if own_rate != sample_rate:
            import soxr

            samples = soxr.resample(samples, own_rate, sample_rate, quality="HQ")
    step = BLOCK_SECONDS * sample_rate
    blocks = (samples[start : start + step] for start in range(0, len(samples), step))
    return AudioInput(blocks, sample_rate, lambda: warning)


def _checked(samples: NDArray[Any], sample_rate: int | None) -> Samples:
    if sample_rate is None or sample_rate <= 0:
        raise SamplesError(f"sample_rate: samples need their rate in Hz, such as sample_rate=16000; got {sample_rate}")
    if samples.ndim != 1 or len(samples) == 0:
        raise SamplesError(
            f"samples: expected one channel of shape (N,), got {samples.shape}; average the channels of stereo"
        )
    if samples.dtype == np.int16:
        scaled: Samples = samples.astype(np.float32) / np.float32(32768)
        return scaled
    if not np.issubdtype(samples.dtype, np.floating):
        raise SamplesError(f"samples: expected floats in [-1, 1] or 16-bit integers, got {samples.dtype}")
    peak = float(np.abs(samples).max())
    if not peak <= 10:  # also true of NaN
        raise SamplesError(f"samples: expected floats in [-1, 1], got values up to {peak:.4g}")
    return np.clip(samples.astype(np.float32), -1.0, 1.0)


def _emptying(blocks: list[Samples]) -> Iterator[Samples]:
    """Yield the blocks, keeping none that was passed on."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()
