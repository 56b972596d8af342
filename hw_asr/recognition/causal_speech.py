"""Which parts of a recording may hold speech, found while it arrives: for models that can recognise live audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats
from hw_asr.recognition.speech_activity import (
    AFTER_STEPS,
    BACKGROUND_PERCENTILE,
    BEFORE_STEPS,
    BLOCK_STEPS,
    CONTEXT_SECONDS,
    LEAST_CONTEXT_SECONDS,
    MIN_STEPS,
    STEP_SECONDS,
    WINDOW_SECONDS,
    PowerMeter,
    rises_above,
    smoothed,
    speech_around,
)

HALF, CONTEXT, LEAST = (round(seconds / STEP_SECONDS) for seconds in (0.5, CONTEXT_SECONDS, LEAST_CONTEXT_SECONDS))
DELAY_SECONDS = (BEFORE_STEPS + MIN_STEPS) * STEP_SECONDS + WINDOW_SECONDS
"""Time from the end of a step to its decision, after the first `LEAST_CONTEXT_SECONDS`."""

Steps = NDArray[np.bool_]
"""(n,) whether there may be speech in each 20 ms."""


class CausalSpeechDetector:
    """Finds speech as `speech_steps` does, but compares a sound with the background before it only.

    Decisions are the same however a recording is cut into pieces. The background is the 10th percentile of the 5
    seconds before; in the first 3 seconds, that of those 3 seconds, so their decisions are known only then, or at the
    end of a shorter recording. A steady sound that begins suddenly counts as speech until it has become the background.
    """

    def __init__(self, sample_rate: int) -> None:
        self._meter = PowerMeter(sample_rate)
        self._samples = np.empty(0, np.float32)  # from the first window that is not measured on
        self._num_samples = self._num_windows = 0
        self._powers = self._meter.powers(self._samples)  # from the last step that is smoothed on
        self._levels = self._powers[:, 1:]  # the last ones, which end at step `_num_active`
        self._pending = np.empty(0, bool)  # audible, of the steps whose background is not known
        self._num_active = self._num_decided = 0
        self._active = np.empty(0, bool)  # from step `_num_active - len` on

    def accept(self, samples: Samples | Integers) -> Steps:
        """Return the decisions about the steps after those returned before that are known with these samples (N,)."""
        floats, block = as_floats(samples), BLOCK_STEPS * self._meter.step
        parts = [self._advance(floats[start : start + block], False) for start in range(0, len(floats), block)]
        return np.concatenate([np.empty(0, bool), *parts])

    def finish(self) -> Steps:
        """Return the decisions about all other steps, at the end of the recording; it has at least one."""
        return self._advance(np.empty(0, np.float32), True)

    def _advance(self, samples: Samples, is_last: bool) -> Steps:
        powers = self._smooth(self._measure(samples, is_last), is_last)
        if not self._meter.has_bands:
            return np.ones(len(powers), bool)
        if len(powers):
            sound = self._meter.measure(powers)
            self._levels = np.concatenate([self._levels, sound.levels])
            self._pending = np.concatenate([self._pending, sound.audible])
        self._compare(is_last)
        return self._decide(is_last)

    def _measure(self, samples: Samples, is_last: bool) -> NDArray[np.float64]:
        """Return the powers of the steps that are known now."""
        step, size = self._meter.step, self._meter.size
        self._samples = np.concatenate([self._samples, samples])
        self._num_samples += len(samples)
        powers = self._meter.powers(self._samples)
        self._samples = self._samples[len(powers) * step :].copy()
        self._num_windows += len(powers)
        missing = max(1, -(-self._num_samples // step)) - self._num_windows
        if is_last and missing:
            if self._num_windows == 0:
                last = self._meter.powers(np.pad(self._samples, (0, size - len(self._samples))))
            else:
                last = powers[-1:] if len(powers) else self._powers[-1:]
            powers = np.concatenate([powers, np.repeat(last, missing, axis=0)])
        return powers

    def _smooth(self, powers: NDArray[np.float64], is_last: bool) -> NDArray[np.float64]:
        """Return the averages over three steps that are known; the two steps at the edges are repeated."""
        before = self._powers if len(self._powers) else powers[:1]
        held = np.concatenate([before, powers, powers[-1:] if is_last else powers[:0]])
        self._powers = held[-2:]
        return smoothed(held)[1:-1] if len(held) > 2 else held[:0]

    def _compare(self, is_last: bool) -> None:
        """Compare the pending steps with their backgrounds, half a second after the other."""
        total = self._num_active + len(self._pending)
        base = total - len(self._levels)
        while self._num_active < total:
            start = self._num_active // HALF * HALF
            end = min(start + HALF, total)
            if start < LEAST and total < LEAST and not is_last:
                return
            before = slice(0, LEAST) if start < LEAST else slice(max(0, start - CONTEXT) - base, start - base)
            background = np.percentile(self._levels[before], BACKGROUND_PERCENTILE, axis=0)
            count = end - self._num_active
            levels = self._levels[self._num_active - base : end - base]
            active = rises_above(levels, background) & self._pending[:count]
            self._active = np.concatenate([self._active, active])
            self._pending, self._num_active = self._pending[count:], end
        if self._num_active >= LEAST:
            self._levels = self._levels[max(0, self._num_active // HALF * HALF - CONTEXT - base) :]

    def _decide(self, is_last: bool) -> Steps:
        """Return the decisions that steps which are not compared yet cannot change."""
        known = self._num_active if is_last else self._num_active - BEFORE_STEPS - MIN_STEPS + 1
        base = self._num_active - len(self._active)
        if known <= self._num_decided:
            return np.empty(0, bool)
        decisions = speech_around(self._active)[self._num_decided - base : known - base]
        self._num_decided = known
        # Of a run of loud steps that reaches back further, enough remains for it to count.
        self._active = self._active[max(0, known - AFTER_STEPS - MIN_STEPS - base) :]
        return decisions
