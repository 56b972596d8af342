"""Which parts of a recording may hold speech: those that rise above its own background noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats

STEP_SECONDS, WINDOW_SECONDS = 0.02, 0.032
BLOCK_STEPS = 4096
"""Steps that are measured at a time."""
BANDS = ((300, 800), (800, 1800), (1800, 4000))
"""Hz. Mains hum and its first harmonics lie below."""
CONTEXT_SECONDS, LEAST_CONTEXT_SECONDS = 5.0, 3.0
"""The background at a moment is the louder one of so much audio before it and after it."""
BACKGROUND_PERCENTILE = 10
RISE_DB = 5.0
"""Over the background of one band. White noise rises by 3.5 dB once in several hours."""
QUIETEST_DB = -75.0
"""No speech below this level, dBFS (mean square of a window, full scale being 1)."""
MASKED_DB = -40.0
"""What is so far below the level of all frequencies counts as leakage of the window, not as signal of its band."""
MIN_STEPS = 5
"""Shorter sounds are clicks."""
BEFORE_STEPS, AFTER_STEPS = round(0.3 / STEP_SECONDS), round(0.6 / STEP_SECONDS)
"""Kept around active steps: weak first and last sounds; networks emit characters late rather than early."""
CERTAIN = -40.0
"""Log-probability of every character in a frame without speech."""


def speech_steps(samples: Samples | Integers, sample_rate: int) -> NDArray[np.bool_]:
    """Return for each 20 ms of a recording (N,) whether there may be speech.

    Energy in three bands is compared with the recording's own background, the 10th percentile over the seconds before
    and after. So silence, white noise, hum and other steady sounds of any level hold no speech, and quiet speech does.
    Sounds that come and go count as speech; the network decides what they are. At sample rates too low for the bands
    everything counts as speech.
    """
    meter = PowerMeter(sample_rate)
    sound = meter.measure(smoothed(_powers(samples, meter)))
    if not meter.has_bands:
        return np.ones(len(sound.levels), bool)
    return speech_around(rises_above(sound.levels, _background(sound.levels)) & sound.audible)


class PowerMeter:
    """Measures the power of windows, of which one begins at every step."""

    def __init__(self, sample_rate: int) -> None:
        self.step, self.size = max(1, round(STEP_SECONDS * sample_rate)), max(2, round(WINDOW_SECONDS * sample_rate))
        """Samples."""
        window = np.hanning(self.size + 1)[:-1].astype(np.float32)
        self._window = window / np.sqrt(np.square(window).mean())
        frequencies = np.fft.rfftfreq(self.size, 1 / sample_rate)
        bands = [(frequencies >= low) & (frequencies < high) for low, high in BANDS]
        self._bands = [band for band in bands if band.any()]

    @property
    def has_bands(self) -> bool:
        """Whether the sample rate is high enough for the bands of speech."""
        return bool(self._bands)

    def powers(self, samples: Samples) -> NDArray[np.float64]:
        """Return the mean square (n, 1 + bands) of whole windows: of all but the lowest frequencies, of each band."""
        if len(samples) < self.size:
            return np.empty((0, 1 + len(self._bands)))
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.size)[:: self.step]
        power = np.square(np.abs(np.fft.rfft(windows * self._window))) * (2 / self.size**2)
        return np.stack([power[:, 2:].sum(axis=1), *(power[:, band].sum(axis=1) for band in self._bands)], axis=1)

    def measure(self, powers: NDArray[np.float64]) -> Sound:
        """Return the levels of powers (n, 1 + bands)."""
        total, bands = powers[:, :1], powers[:, 1:]
        levels = 10 * np.log10(bands + total * 10 ** (MASKED_DB / 10) + 1e-12)
        return Sound(levels, 10 * np.log10(total[:, 0] + 1e-12) > QUIETEST_DB)


class Sound(NamedTuple):
    """What is measured of n steps."""

    levels: NDArray[np.float64]
    """(n, bands), dB."""
    audible: NDArray[np.bool_]
    """(n,) whether the level of all bands together is that of speech."""


def rises_above(levels: NDArray[np.float64], background: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each of n steps whether one of its levels (n, bands) exceeds a background (n or 1, bands), dB."""
    result: NDArray[np.bool_] = np.any(levels > background + RISE_DB, axis=1)
    return result


def frames_with_speech(
    speech: NDArray[np.bool_], first: int, num_frames: int, seconds_per_frame: float, first_step: int = 0
) -> NDArray[np.bool_]:
    """Return for each of `num_frames` frames from the `first` on whether a step of `speech` in its time is True.

    A frame lasts until the next one; those after the last step are like it. `speech` begins with step `first_step`.
    """
    edges = np.arange(first, first + num_frames + 1) * (seconds_per_frame / STEP_SECONDS) - first_step
    low, high = (min(int(edge), len(speech) - 1) for edge in (edges[0], np.ceil(edges[-1])))
    before = np.concatenate([[0], np.cumsum(speech[low : high + 1])])
    begins = np.minimum(np.floor(edges[:-1] + 1e-6).astype(int), len(speech) - 1) - low
    ends = np.clip(np.ceil(edges[1:] - 1e-6).astype(int) - low, begins + 1, len(before) - 1)
    result: NDArray[np.bool_] = before[ends] > before[begins]
    return result


def silenced(log_probs: NDArray[np.float32], has_speech: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return log-probabilities (T, V) whose frames without speech are the blank, with certainty."""
    if has_speech.all():
        return log_probs
    result: NDArray[np.float32] = log_probs.copy()
    result[~has_speech] = CERTAIN
    result[~has_speech, 0] = 0.0
    return result


def _powers(samples: Samples | Integers, meter: PowerMeter) -> NDArray[np.float64]:
    """Return the powers of all steps of a recording (N,), which are computed in blocks."""
    step, size = meter.step, meter.size
    num_steps, block = max(1, -(-len(samples) // step)), BLOCK_STEPS * step
    if len(samples) < size:
        return np.repeat(meter.powers(np.pad(as_floats(samples), (0, size - len(samples)))), num_steps, axis=0)
    starts = range(0, len(samples), block)
    rows = np.concatenate([meter.powers(as_floats(samples[start : start + block + size - step])) for start in starts])
    # What is too short for a window counts like the last one.
    return np.concatenate([rows, np.repeat(rows[-1:], num_steps - len(rows), axis=0)])


def _background(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the level (n, bands) of the background at each step, the same for every half second."""
    half, context = round(0.5 / STEP_SECONDS), round(CONTEXT_SECONDS / STEP_SECONDS)
    least = round(LEAST_CONTEXT_SECONDS / STEP_SECONDS)
    result = np.empty_like(levels)
    for start in range(0, len(levels), half):
        before, after = levels[max(0, start + half - context) : start + half], levels[start : start + context]
        sides = [side for side in (before, after) if len(side) >= least] or [levels]
        result[start : start + half] = np.max([np.percentile(side, BACKGROUND_PERCENTILE, axis=0) for side in sides], 0)
    return result


def smoothed(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over three steps."""
    padded = np.pad(powers, ((1, 1), (0, 0)), mode="edge")
    averages: NDArray[np.float64] = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return averages


def speech_around(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each step whether there may be speech, given which steps are loud: around every run of loud steps."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    result = np.zeros(len(active), bool)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= MIN_STEPS:
            result[max(0, begin - BEFORE_STEPS) : end + AFTER_STEPS] = True
    return result
