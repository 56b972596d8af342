"""Speech found while a recording arrives, against the definition applied to whole recordings."""

from __future__ import annotations

import unittest

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Samples
from hw_asr.recognition.causal_speech import DELAY_SECONDS, CausalSpeechDetector
from hw_asr.recognition.speech_activity import (
    AFTER_STEPS,
    BEFORE_STEPS,
    MIN_STEPS,
    RISE_DB,
    STEP_SECONDS,
    PowerMeter,
    smoothed,
    speech_steps,
)
from hw_asr.tests.test_speech_activity import RATE, decibels, hum, noise


def expected_steps(samples: Samples, rate: int) -> NDArray[np.bool_]:
    """Apply the definition step by step."""
    meter = PowerMeter(rate)
    count = max(1, -(-len(samples) // meter.step))
    padded = np.pad(samples, (0, max(0, meter.size - len(samples))))
    rows = meter.powers(padded.astype(np.float32))
    rows = np.concatenate([rows, np.repeat(rows[-1:], count, axis=0)])[:count]
    sound = meter.measure(smoothed(rows))
    active = np.zeros(count, bool)
    for index in range(count):
        block = index // 25 * 25
        before = sound.levels[max(0, block - 250) : block] if block >= 150 else sound.levels[:150]
        background = np.percentile(before, 10, axis=0)
        active[index] = (sound.levels[index] > background + RISE_DB).any() and sound.audible[index]
    result = np.zeros(count, bool)
    for index in range(count):
        run = range(index, index)
        while run.stop < count and active[run.stop]:
            run = range(index, run.stop + 1)
        if (index == 0 or not active[index - 1]) and len(run) >= MIN_STEPS:
            result[max(0, run.start - BEFORE_STEPS) : run.stop + AFTER_STEPS] = True
    return result


def detected(samples: Samples, rate: int, cuts: list[int]) -> NDArray[np.bool_]:
    detector = CausalSpeechDetector(rate)
    return np.concatenate([*map(detector.accept, np.split(samples, cuts)), detector.finish()])


def bursts(seconds: float, generator: np.random.Generator) -> Samples:
    """Return noise with sounds of random lengths, distances and levels."""
    samples = noise(seconds, -60)
    place = int(generator.integers(0, RATE))
    while place < len(samples):
        length = int(generator.choice([300, 1500, 5000, 20_000, 90_000]))
        loud = generator.standard_normal(len(samples[place : place + length]))
        samples[place : place + length] += decibels(generator.uniform(-60, -30)) * loud
        place += length + int(generator.choice([400, 3000, 30_000, 120_000]))
    return samples


class CausalSpeechTest(unittest.TestCase):
    def test_decisions_are_those_of_the_definition_for_every_cut(self) -> None:
        generator = np.random.default_rng(0)
        for seconds in (0.001, 0.02, 0.04, 0.5, 2.9, 3.0, 3.1, 7.77, 20):
            samples = bursts(seconds, generator) if seconds > 0.1 else noise(seconds, -20)
            expected = expected_steps(samples, RATE)
            pieces = [np.arange(k, len(samples), k).tolist() for k in (321, 5000, 160_000)]
            pieces.append(np.sort(generator.integers(0, len(samples) + 1, 30)).tolist())
            for cuts in pieces:
                np.testing.assert_array_equal(detected(samples, RATE, cuts), expected)
        self.assertTrue(0.1 < expected.mean() < 0.9)

    def test_decisions_are_known_after_the_stated_delay(self) -> None:
        samples = bursts(10, np.random.default_rng(1))
        detector, known = CausalSpeechDetector(RATE), 0
        for start in range(0, len(samples), 100):
            known += len(detector.accept(samples[start : start + 100]))
            seconds = (start + 100) / RATE
            if seconds > 3.1:
                self.assertGreaterEqual((known + 1) * STEP_SECONDS + DELAY_SECONDS, seconds - 0.01)
        self.assertLess(detector._num_samples - len(samples), 1)
        self.assertLess(len(detector._levels) + len(detector._active) + len(detector._samples), 2000)

    def test_steady_sounds_hold_no_speech(self) -> None:
        sounds = {
            "digital silence": np.zeros(20 * RATE, np.float32),
            "a constant": np.full(20 * RATE, 0.1, np.float32),
            "noise that grows": np.linspace(0.3, 1, 30 * RATE, dtype=np.float32) * noise(30, -40),
            "hum with noise": hum(20, 50) + noise(20, -60),
        }
        sounds |= {f"white noise, {level} dBFS": noise(20, level) for level in (-30, -50, -70, -90)}
        sounds |= {f"pink noise, {seconds} s": noise(seconds, -50, 1) for seconds in (0.3, 1, 5, 60)}
        for name, samples in sounds.items():
            with self.subTest(name):
                self.assertFalse(detected(samples.astype(np.float32), RATE, [1000]).any())

    def test_it_never_hears_less_than_the_whole_recording_shows(self) -> None:
        samples = bursts(30, np.random.default_rng(3))
        causal, whole = detected(samples, RATE, []), speech_steps(samples, RATE)
        self.assertGreater(causal[whole].mean(), 0.99)

    def test_rates_without_speech_bands_are_left_alone(self) -> None:
        self.assertTrue(detected(np.zeros(4001, np.float32), 500, [7, 900]).all())


if __name__ == "__main__":
    unittest.main()
