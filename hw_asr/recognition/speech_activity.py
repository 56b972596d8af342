"""Which parts of a recording may hold speech: those that rise above its own background noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats
from hw_asr.recognition.waveform_model import LogProbs

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
BEFORE_SECONDS, AFTER_SECONDS = 0.3, 0.6
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
    powers = _smoothed(_powers(samples, sample_rate))
    total, bands = powers[:, :1], powers[:, 1:]
    if bands.shape[1] == 0:
        return np.ones(len(powers), bool)
    levels = 10 * np.log10(bands + total * 10 ** (MASKED_DB / 10) + 1e-12)
    active = (levels > _background(levels) + RISE_DB).any(axis=1)
    active &= 10 * np.log10(total[:, 0] + 1e-12) > QUIETEST_DB
    return _widened(_without_short_runs(active), BEFORE_SECONDS, AFTER_SECONDS)


def frames_with_speech(
    speech: NDArray[np.bool_], first: int, num_frames: int, seconds_per_frame: float
) -> NDArray[np.bool_]:
    """Return for each of `num_frames` frames from the `first` on whether a step of `speech` in its time is True.

    A frame lasts until the next one; those after the last step are like it.
    """
    edges = np.arange(first, first + num_frames + 1) * (seconds_per_frame / STEP_SECONDS)
    low, high = (min(int(edge), len(speech) - 1) for edge in (edges[0], np.ceil(edges[-1])))
    before = np.concatenate([[0], np.cumsum(speech[low : high + 1])])
    begins = np.minimum(np.floor(edges[:-1] + 1e-6).astype(int), len(speech) - 1) - low
    ends = np.clip(np.ceil(edges[1:] - 1e-6).astype(int) - low, begins + 1, len(before) - 1)
    result: NDArray[np.bool_] = before[ends] > before[begins]
    return result


def silenced(log_probs: LogProbs, has_speech: NDArray[np.bool_]) -> LogProbs:
    """Return log-probabilities (T, V) whose frames without speech are the blank, with certainty."""
    if has_speech.all():
        return log_probs
    result: LogProbs = log_probs.copy()
    result[~has_speech] = CERTAIN
    result[~has_speech, 0] = 0.0
    return result


def _powers(samples: Samples | Integers, sample_rate: int) -> NDArray[np.float64]:
    """Return the mean square (n, 1 + bands) of windows: of all frequencies but the lowest, and of each band."""
    step, size = max(1, round(STEP_SECONDS * sample_rate)), max(2, round(WINDOW_SECONDS * sample_rate))
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    window /= np.sqrt(np.square(window).mean())
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    bands = [band for low, high in BANDS if (band := (frequencies >= low) & (frequencies < high)).any()]
    num_steps = max(1, -(-len(samples) // step))
    powers = np.empty((num_steps, 1 + len(bands)))
    block, filled = BLOCK_STEPS * step, 0
    for start in range(0, len(samples), block):
        part = as_floats(samples[start : start + block + size - step])
        if len(part) < size:
            part = np.pad(part, (0, size - len(part))) if filled == 0 else part[:0]
        windows = np.lib.stride_tricks.sliding_window_view(part, size)[::step] if len(part) else part.reshape(0, size)
        power = np.square(np.abs(np.fft.rfft(windows * window))) * (2 / size**2)
        rows = np.stack([power[:, 2:].sum(axis=1), *(power[:, band].sum(axis=1) for band in bands)], axis=1)
        powers[filled : filled + len(rows)] = rows
        filled += len(rows)
    powers[filled:] = powers[filled - 1]  # what is too short for a window counts like the last one
    return powers


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


def _smoothed(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over three steps."""
    padded = np.pad(powers, ((1, 1), (0, 0)), mode="edge")
    averages: NDArray[np.float64] = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return averages


def _without_short_runs(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    result: NDArray[np.bool_] = active.copy()
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin < MIN_STEPS:
            result[begin:end] = False
    return result


def _widened(active: NDArray[np.bool_], before: float, after: float) -> NDArray[np.bool_]:
    """Return where an active step is at most `after` seconds ago or `before` seconds ahead."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    result = np.zeros(len(active), bool)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        result[max(0, begin - round(before / STEP_SECONDS)) : end + round(after / STEP_SECONDS)] = True
    return result
