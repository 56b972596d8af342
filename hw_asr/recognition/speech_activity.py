"""Which parts of a recording may hold speech: those that rise above its own background noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats
from hw_asr.recognition.waveform_model import LogProbs

BLOCK_SECONDS = 60
STEP_SECONDS, WINDOW_SECONDS = 0.02, 0.032
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


class SpeechActivity:
    """Finds speech in a recording, whose samples are added in blocks.

    Energy in three bands is compared with the recording's own background, the 10th percentile over the seconds before
    and after. So silence, white noise, hum and other steady sounds of any level hold no speech, and quiet speech does.
    Sounds that come and go count as speech; the network decides what they are.
    """

    def __init__(self, sample_rate: int) -> None:
        self._step = max(1, round(STEP_SECONDS * sample_rate))
        self._size = max(2, round(WINDOW_SECONDS * sample_rate))
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._window /= np.sqrt(np.square(self._window).mean())
        frequencies = np.fft.rfftfreq(self._size, 1 / sample_rate)
        self._bands = [(frequencies >= low) & (frequencies < high) for low, high in BANDS]
        self._bands = [band for band in self._bands if band.any()]
        self._rest: Samples = np.empty(0, np.float32)
        self._powers: list[NDArray[np.float32]] = []
        self._first_step = 0  # of the powers that are kept

    @classmethod
    def of(cls, samples: Samples | Integers, sample_rate: int) -> SpeechActivity:
        """Measure a whole recording (N,)."""
        activity = cls(sample_rate)
        step = BLOCK_SECONDS * sample_rate
        for start in range(0, len(samples), step):
            activity.add(as_floats(samples[start : start + step]))
        activity.finish()
        return activity

    def add(self, block: Samples) -> None:
        """Measure the next samples."""
        samples = np.concatenate([self._rest, block])
        count = max(0, (len(samples) - self._size) // self._step + 1)
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(samples, self._size)[:: self._step][:count]
            for start in range(0, count, 4096):
                self._powers.append(self._powers_of(frames[start : start + 4096]))
        self._rest = samples[count * self._step :]

    def finish(self) -> None:
        """Measure the end of the recording: what is too short for a window counts like the last one."""
        if not self._powers:
            self.add(np.pad(self._rest, (0, max(0, self._size - len(self._rest)))))
        else:
            self._powers.append(np.repeat(self._powers[-1][-1:], -(-len(self._rest) // self._step), axis=0))
        self._rest = np.empty(0, np.float32)

    def _powers_of(self, frames: Samples) -> NDArray[np.float32]:
        """Return the mean square (n, 1 + bands) of windowed frames (n, size): of all, and of each band."""
        spectrum = np.fft.rfft(frames * self._window)
        power = np.square(np.abs(spectrum)) * (2 / self._size**2)
        columns = [power[:, 2:].sum(axis=1), *(power[:, band].sum(axis=1) for band in self._bands)]  # without DC
        powers: NDArray[np.float32] = np.stack(columns, axis=1).astype(np.float32)
        return powers

    def silence(self, log_probs: LogProbs, first: int, seconds_per_frame: float) -> LogProbs:
        """Return log-probabilities (T, V) whose frames without speech are the blank, with certainty.

        `first` is the place of the first frame in the recording. Calls must not go back in time.
        """
        # A frame lasts until the next one; it is kept when there may be speech in any part of it.
        edges = np.arange(first, first + len(log_probs) + 1) * (seconds_per_frame / STEP_SECONDS)
        speech = self.speech(int(edges[0]), int(np.ceil(edges[-1])))
        if len(speech) == 0 or speech.all():
            return log_probs
        before = np.concatenate([[0], np.cumsum(speech)])
        begins = np.minimum(np.floor(edges[:-1]).astype(int) - int(edges[0]), len(speech) - 1)
        ends = np.clip(np.ceil(edges[1:]).astype(int) - int(edges[0]), begins + 1, len(speech))
        silent = before[ends] == before[begins]
        result: LogProbs = log_probs.copy()
        result[silent] = CERTAIN
        result[silent, 0] = 0.0
        return result

    def speech(self, begin: int, end: int) -> NDArray[np.bool_]:
        """Return whether there may be speech in the steps of 20 ms from `begin` to `end`, or to the last one measured.

        What lies more than CONTEXT_SECONDS before `begin` is forgotten.
        """
        if not self._bands:
            return np.ones(end - begin, bool)
        second, context = round(1 / STEP_SECONDS), round((CONTEXT_SECONDS + AFTER_SECONDS) / STEP_SECONDS)
        powers = np.concatenate([np.empty((0, 1 + len(self._bands)), np.float32), *self._powers])
        forgotten = max(0, (begin - context) // second * second - second - self._first_step)
        powers, self._first_step = powers[forgotten:], self._first_step + forgotten
        self._powers = [powers]
        low = begin - self._first_step
        known = _smoothed(powers[: low + end - begin + context + second].astype(np.float64))
        total, bands = known[:, :1], known[:, 1:]
        levels = 10 * np.log10(bands + total * 10 ** (MASKED_DB / 10) + 1e-12)
        active = (levels > self._background(levels) + RISE_DB).any(axis=1)
        active &= 10 * np.log10(total[:, 0] + 1e-12) > QUIETEST_DB
        speech: NDArray[np.bool_] = _widened(_without_short_runs(active), BEFORE_SECONDS, AFTER_SECONDS)
        return speech[low : low + end - begin]

    def _background(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the level (n, bands) of the background at each step, the same for every half second."""
        half, context = round(0.5 / STEP_SECONDS), round(CONTEXT_SECONDS / STEP_SECONDS)
        least = round(LEAST_CONTEXT_SECONDS / STEP_SECONDS)
        result = np.empty_like(levels)
        for start in range(0, len(levels), half):
            before, after = levels[max(0, start + half - context) : start + half], levels[start : start + context]
            sides = [side for side in (before, after) if len(side) >= least] or [levels]
            lowest = [np.percentile(side, BACKGROUND_PERCENTILE, axis=0) for side in sides]
            result[start : start + half] = np.max(lowest, axis=0)
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
