"""Which parts of a recording may hold speech: steady sounds of any kind do not, speech of any level does."""

from __future__ import annotations

import json
import unittest
from unittest import mock

import numpy as np

from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.recording import Samples, as_integers
from hw_asr.recognition.speech_activity import (
    BLOCK_STEPS,
    STEP_SECONDS,
    frames_with_speech,
    silenced,
    speech_steps,
)
from hw_asr.tests.transcribe_case import CORPUS

RATE = 16_000


def decibels(level: float) -> float:
    return float(10 ** (level / 20))


def noise(seconds: float, level: float, exponent: float = 0.0) -> Samples:
    """Noise of a level in dBFS whose power falls with frequency to the power of -exponent."""
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(round(seconds * RATE)))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
    samples = np.fft.irfft(spectrum, round(seconds * RATE))
    return (decibels(level) * samples / samples.std()).astype(np.float32)


def hum(seconds: float, frequency: float, level: float = -40) -> Samples:
    time = np.arange(round(seconds * RATE)) / RATE
    return (decibels(level) * np.sqrt(2) * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


class SteadySoundTest(unittest.TestCase):
    def test_steady_sounds_hold_no_speech(self) -> None:
        fade = np.linspace(0, 1, 30 * RATE, dtype=np.float32)
        sounds = {
            "digital silence": np.zeros(20 * RATE, np.float32),
            "a constant": np.full(20 * RATE, 0.1, np.float32),
            "dither": np.random.default_rng(1).integers(-1, 2, 20 * RATE) / np.float32(32768),
            "noise that grows": fade * noise(30, -40),
            "noise that becomes louder": np.concatenate([noise(15, -70), noise(15, -50)]),
            "hum with noise": hum(20, 50) + noise(20, -60),
            "many harmonics": np.sum([hum(20, 50 * k) / k for k in range(1, 20)], axis=0),
        }
        sounds |= {f"white noise, {level} dBFS": noise(20, level) for level in (-30, -50, -70, -90)}
        sounds |= {f"pink noise, {seconds} s": noise(seconds, -50, 1) for seconds in (0.3, 1, 5, 60)}
        sounds |= {"brown noise": noise(20, -50, 2)}
        sounds |= {f"hum of {frequency} Hz": hum(20, frequency) for frequency in (50, 60, 100, 120, 150, 180)}
        for name, samples in sounds.items():
            for rounded in (False, True):
                with self.subTest(name, rounded=rounded):
                    heard = as_integers(samples) / np.float32(32768) if rounded else samples
                    self.assertFalse(speech_steps(heard.astype(np.float32), RATE).any())

    def test_half_an_hour_of_near_silence(self) -> None:
        samples = np.random.default_rng(0).standard_normal(30 * 60 * RATE, np.float32)
        self.assertFalse(speech_steps(as_integers(decibels(-70) * samples), RATE).any())

    def test_rates_without_speech_bands_are_left_alone(self) -> None:
        self.assertTrue(speech_steps(np.zeros(4000, np.float32), 500).all())


class SpeechTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()[::15]]
        cls.utterances = [read_audio(CORPUS / row["path"], RATE) for row in rows]

    def lost(self, samples: Samples, changed: Samples) -> tuple[int, int]:
        """Return the number of loud steps (within 20 dB of the loudest) that are lost by a change, and of all."""
        step = round(STEP_SECONDS * RATE)
        power = np.square(samples[: len(samples) // step * step].reshape(-1, step)).mean(axis=1)
        loud = power > power.max() / 100
        active = speech_steps(changed.astype(np.float32), RATE)[: len(loud)]
        return int((loud & ~active).sum()), int(loud.sum())

    def test_speech_of_any_level_and_in_noise_is_kept(self) -> None:
        generator = np.random.default_rng(0)
        for level in (-20, -40, -60):
            for ratio in (None, 20, 10, 5):
                lost = total = 0
                for samples in self.utterances:
                    changed = samples * decibels(level) / samples.std()
                    if ratio is not None:
                        changed = changed + decibels(level - ratio) * generator.standard_normal(len(samples))
                    counts = self.lost(samples, as_integers(changed.astype(np.float32)) / np.float32(32768))
                    lost, total = lost + counts[0], total + counts[1]
                with self.subTest(level=level, signal_to_noise=ratio):
                    self.assertLessEqual(lost, 0.001 * total)

    def test_speech_between_pauses_is_found_where_it_is(self) -> None:
        speech = self.utterances[0] * decibels(-30) / self.utterances[0].std()
        samples = noise(40, -70)
        samples[20 * RATE : 20 * RATE + len(speech)] += speech
        active = np.flatnonzero(speech_steps(samples, RATE)) * STEP_SECONDS
        self.assertAlmostEqual(active[0], 19.7, delta=0.4)
        self.assertAlmostEqual(active[-1], 20.6 + len(speech) / RATE, delta=0.4)

    def test_every_step_has_a_value_at_any_length(self) -> None:
        step = round(STEP_SECONDS * RATE)
        samples = np.tile(np.concatenate(self.utterances), 10)
        for length in (1, step, 511, 512, 513, BLOCK_STEPS * step + 1, BLOCK_STEPS * step + 600, 90 * RATE + 7):
            active = speech_steps(samples[:length], RATE)
            self.assertEqual(len(active), -(-length // step))
        self.assertTrue(active.any())

    def test_blocks_make_no_difference(self) -> None:
        samples = np.concatenate([part for speech in self.utterances for part in (speech, noise(1.7, -60))])
        expected = speech_steps(samples, RATE)
        self.assertTrue(0.2 < expected.mean() < 1)
        with mock.patch("hw_asr.recognition.speech_activity.BLOCK_STEPS", 37):
            np.testing.assert_array_equal(speech_steps(samples, RATE), expected)

    def test_frames_without_speech_become_the_blank(self) -> None:
        speech = self.utterances[0]
        samples = np.concatenate([np.zeros(5 * RATE, np.float32), speech, np.zeros(5 * RATE, np.float32)])
        steps = speech_steps(samples, RATE)
        log_probs = np.log(np.full((len(samples) // 640, 4), 0.25, np.float32))
        has_speech = frames_with_speech(steps, 0, len(log_probs), 0.04)
        np.testing.assert_array_equal(has_speech, [steps[2 * k : 2 * k + 2].any() for k in range(len(log_probs))])
        parts = [
            frames_with_speech(steps, first, len(log_probs[first : first + 37]), 0.04)
            for first in range(0, len(log_probs), 37)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), has_speech)
        np.testing.assert_array_equal(frames_with_speech(steps, 0, 4, 0.01), np.repeat(steps[:2], 2))
        result = silenced(log_probs, has_speech)
        silent = result[:, 0] == 0
        self.assertTrue(silent[:100].all() and silent[-100:].all())
        np.testing.assert_array_equal(result[has_speech], log_probs[has_speech])
        self.assertTrue(np.allclose(np.exp(result).sum(axis=1), 1))
        self.assertTrue(np.isfinite(result).all())


if __name__ == "__main__":
    unittest.main()
