"""Decoded blocks of any rate and number of channels to one mono signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import DecodingError, Integers, Samples, Target, as_integers

if TYPE_CHECKING:
    import soxr

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
MAX_CHANNELS = 256
MAX_AMPLITUDE = 10.0
CANCELLATION = 0.2
"""Channels cancel out when their mean has less than this share of the energy of the mean of unrelated channels."""
_SILENT_BLOCK = 1 << 20


class MonoSignal:
    """Collects the mean of the channels, or one of them, resampled to the target's rate by soxr (HQ).

    Blocks are consecutive on the recording's clock; samples outside of the target's piece are dropped. The rate and
    the number of channels may change between blocks. Memory grows with the result only; a result that is longer than
    the target's `compact_seconds` is kept as 16-bit integers.
    """

    def __init__(self, target: Target) -> None:
        self.position = 0.0
        """Seconds of the recording seen so far."""
        self._target = target
        piece = target.piece
        self._start = piece.start if piece is not None else 0.0
        self._end = piece.start + piece.seconds if piece is not None and piece.seconds is not None else float("inf")
        self._samples: Samples | Integers = np.empty(0, np.float32)
        self._length = 0
        self._rate: int | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._mean_energy = 0.0
        self._channel_energy: NDArray[np.float64] = np.zeros(1)

    @property
    def is_complete(self) -> bool:
        """Whether the end of the piece has been reached."""
        return self.position >= self._end

    @property
    def opposed_channel(self) -> int | None:
        """The loudest channel, when the channels cancel out in their mean; None otherwise."""
        num_channels, total = len(self._channel_energy), float(self._channel_energy.sum())
        if num_channels == 1 or self._mean_energy * num_channels**2 >= CANCELLATION * total:
            return None
        return int(self._channel_energy.argmax())

    def append(self, block: Samples, sample_rate: int) -> None:
        """Add (T, C) samples at a rate in Hz. Raises DecodingError beyond the limits."""
        check_format(sample_rate, block.shape[1])
        start = self.position
        self.position += len(block) / sample_rate
        self._check_length(min(self.position, self._end) - self._start)
        first = max(0, round((self._start - start) * sample_rate))
        last = len(block) if self.position < self._end else max(0, round((self._end - start) * sample_rate))
        block = block[first:last]
        if len(block):
            self._resample(self._mixed(block), sample_rate)

    def append_silence(self, seconds: float) -> None:
        """Add silence, as long as a gap. Raises DecodingError beyond the limits."""
        rate = self._rate or self._target.sample_rate
        remaining = round(seconds * rate)
        while remaining > 0 and not self.is_complete:
            self.append(np.zeros((min(remaining, _SILENT_BLOCK), 1), np.float32), rate)
            remaining -= _SILENT_BLOCK

    def finish(self) -> Samples | Integers:
        """Return the (T,) signal; nothing can be added afterwards. Raises DecodingError for impossible samples."""
        self._flush()
        self._samples.resize(self._length, refcheck=False)
        return self._samples

    def _mixed(self, block: Samples) -> Samples:
        num_channels = block.shape[1]
        if num_channels == 1:
            return block[:, 0]
        if self._target.channel is not None:
            return np.ascontiguousarray(block[:, min(self._target.channel, num_channels - 1)])
        mean = np.dot(block, np.full(num_channels, 1 / num_channels, np.float32))
        if num_channels != len(self._channel_energy):
            self._mean_energy, self._channel_energy = 0.0, np.zeros(num_channels)
        self._mean_energy += float(np.dot(mean, mean))
        self._channel_energy += np.einsum("tc,tc->c", block, block)
        return np.asarray(mean, np.float32)

    def _resample(self, samples: Samples, sample_rate: int) -> None:
        if sample_rate != self._rate:
            self._flush()
            self._rate = sample_rate
            if sample_rate != self._target.sample_rate:
                import soxr  # only where it is needed, so that recordings of the target's rate do without

                self._resampler = soxr.ResampleStream(
                    sample_rate, self._target.sample_rate, 1, dtype="float32", quality="HQ"
                )
        self._write(samples if self._resampler is None else self._resampler.resample_chunk(samples))

    def _flush(self) -> None:
        if self._resampler is not None:
            self._write(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
            self._resampler = None

    def _write(self, samples: Samples | Integers) -> None:
        end = self._length + len(samples)
        is_compact = self._samples.dtype == np.int16
        if not is_compact and end > self._target.compact_seconds * self._target.sample_rate:
            check_amplitude(self._samples[: self._length])
            self._samples, is_compact = as_integers(self._samples[: self._length]), True
        if is_compact:
            check_amplitude(samples)
            samples = as_integers(samples)
        if end > len(self._samples):  # the system extends a large block in place: no second copy in memory
            self._samples.resize(end + self._length // 8, refcheck=False)
        self._samples[self._length : end] = samples
        self._length = end

    def _check_length(self, seconds: float) -> None:
        if seconds > 3600 * self._target.max_audio_hours:
            limit = f"{self._target.max_audio_hours:g} h"
            raise DecodingError(f"longer than {limit}; split it, or raise preprocessing.max_audio_hours")


def check_amplitude(samples: Samples | Integers) -> float:
    """Return the largest absolute value of samples (T,); raises DecodingError when it is far beyond full scale."""
    peak = max(float(samples.max()), -float(samples.min())) if len(samples) else 0.0
    if not peak < MAX_AMPLITUDE:  # also true of NaN
        raise DecodingError(f"its samples reach {peak:.4g} where full scale is 1; write it again as 16-bit PCM")
    return peak


def check_format(sample_rate: int, num_channels: int) -> None:
    """Raise DecodingError for a rate or a number of channels that no recording of speech has."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise DecodingError(
            f"impossible sample rate, {sample_rate} Hz; expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
        )
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise DecodingError(f"impossible number of channels, {num_channels}; expected 1 to {MAX_CHANNELS}")
