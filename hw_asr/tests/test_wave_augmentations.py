"""Augmentations of waveforms: the property that each one changes."""

from __future__ import annotations

import unittest

import torch
from torch import Tensor

from hw_asr.augmentations import Gain, PitchShift, SpeedPerturbation, TimeStretching
from hw_asr.config.registry import WAVE_AUGMENTATIONS

SAMPLE_RATE = 16_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def harmonic(frequency: float, num_samples: int) -> Tensor:
    """A tone with three harmonics, faded in and out."""
    time = torch.arange(num_samples, dtype=torch.float64) / SAMPLE_RATE
    tone = sum(torch.sin(2 * torch.pi * k * frequency * time) / k for k in (1, 2, 3))
    fade = torch.hann_window(2 * 400, dtype=torch.float64)
    tone[:400] *= fade[:400]
    tone[-400:] *= fade[400:]
    return (0.2 * tone).float()


def fundamental(samples: Tensor) -> float:
    """The shortest lag at which a tone is like itself, by autocorrelation with parabolic interpolation; in Hz."""
    samples = samples[len(samples) // 4 : -len(samples) // 4].double()
    power = torch.fft.rfft(samples, n=2 * len(samples)).abs() ** 2
    correlation = torch.fft.irfft(power)[: len(samples)] / torch.arange(len(samples), 0, -1)
    lags = correlation[: SAMPLE_RATE // 60]
    low = SAMPLE_RATE // 700
    peaks = (lags[1:-1] > lags[:-2]) & (lags[1:-1] >= lags[2:]) & (lags[1:-1] > 0.9 * lags[low:].max())
    best = 1 + low + int(peaks[low:].nonzero()[0])
    before, at, after = (float(lags[best + step]) for step in (-1, 0, 1))
    return SAMPLE_RATE / (best + 0.5 * (before - after) / (before - 2 * at + after))


def decibels(ratio: Tensor) -> Tensor:
    return 20 * torch.log10(ratio)


class GainTest(unittest.TestCase):
    def test_gains_lie_in_the_range_and_fill_it(self) -> None:
        samples = torch.ones(500, 40)
        louder, _ = Gain(1.0, -18, 6)(samples, torch.full((500,), 40), seeded())
        gains = decibels(louder[:, 0])
        self.assertTrue(-18 <= float(gains.min()) < -17 and 5 < float(gains.max()) <= 6)
        self.assertTrue(torch.equal(louder, louder[:, :1].expand(500, 40)))

    def test_fixed_gain(self) -> None:
        samples = torch.randn(3, 100, generator=seeded())
        louder, _ = Gain(1.0, -6.0206, -6.0206)(samples, torch.full((3,), 100), seeded())
        torch.testing.assert_close(louder, samples / 2, rtol=1e-5, atol=0)


class TimeStretchingTest(unittest.TestCase):
    def test_duration_changes_and_pitch_stays(self) -> None:
        for rate in (0.8, 0.9, 1.25):
            for frequency in (110.0, 220.0):
                samples = harmonic(frequency, SAMPLE_RATE)[None]
                stretched, lengths = TimeStretching(1.0, rate, rate)(samples, torch.tensor([SAMPLE_RATE]), seeded())
                self.assertAlmostEqual(int(lengths), SAMPLE_RATE / rate, delta=1)
                self.assertEqual(stretched.shape, (1, int(lengths)))
                self.assertAlmostEqual(fundamental(stretched[0]) / frequency, 1, delta=0.003)
                self.assertAlmostEqual(float(stretched[0].std() / samples.std()), 1, delta=0.2)

    def test_rate_one_changes_nothing(self) -> None:
        samples = torch.randn(1, 5000, generator=seeded())
        stretched, _ = TimeStretching(1.0, 1.0, 1.0)(samples, torch.tensor([5000]), seeded())
        torch.testing.assert_close(stretched, samples, rtol=0, atol=1e-4)

    def test_mixed_rows_keep_their_places(self) -> None:
        lengths = torch.tensor([4000, 8000, 2000, 6000, 100])
        samples = torch.stack([harmonic(200.0, 8000)] * 5) * (torch.arange(8000) < lengths[:, None])
        stretched, new_lengths = TimeStretching(0.5, 0.8, 0.8)(samples, lengths, seeded(1))
        changed = new_lengths != lengths
        self.assertTrue(0 < int(changed.sum()) < 5)
        torch.testing.assert_close(new_lengths[changed], (lengths[changed] / 0.8).round().long())
        self.assertEqual(stretched.shape[1], int(new_lengths.max()))
        for row in (~changed).nonzero().flatten():
            self.assertTrue(torch.equal(stretched[row, : lengths[row]], samples[row, : lengths[row]]))


class PitchShiftTest(unittest.TestCase):
    def test_pitch_changes_and_duration_stays(self) -> None:
        for semitones in (-4.0, -2.5, 1.0, 4.0):
            for frequency in (110.0, 220.0):
                samples = harmonic(frequency, SAMPLE_RATE)[None]
                shift = PitchShift(1.0, semitones, semitones, SAMPLE_RATE)
                shifted, lengths = shift(samples, torch.tensor([SAMPLE_RATE]), seeded())
                self.assertEqual((shifted.shape, int(lengths)), (samples.shape, SAMPLE_RATE))
                measured = 12 * torch.log2(torch.tensor(fundamental(shifted[0]) / frequency))
                self.assertAlmostEqual(float(measured), semitones, delta=0.11)
                self.assertAlmostEqual(float(shifted.std() / samples.std()), 1, delta=0.2)

    def test_time_does_not_drift(self) -> None:
        beep, lengths = harmonic(200.0, 1600), torch.tensor([SAMPLE_RATE])
        for start in (0, 7000, 14400):
            samples = torch.zeros(1, SAMPLE_RATE)
            samples[0, start : start + 1600] = beep
            for semitones in (-4.0, 4.0):
                energy = PitchShift(1.0, semitones, semitones)(samples, lengths, seeded())[0][0] ** 2
                centre = float((energy * torch.arange(SAMPLE_RATE)).sum() / energy.sum())
                self.assertAlmostEqual(centre, start + 800, delta=160)

    def test_accepts_the_published_arguments(self) -> None:
        spec = {"type": "PitchShift", "args": {"p": 0.3, "sample_rate": 16000}}
        self.assertEqual(WAVE_AUGMENTATIONS.check(spec, "augmentations.wave[0]", ["sample_rate"]), [])
        self.assertEqual(WAVE_AUGMENTATIONS.build(spec, sample_rate=8000).p, 0.3)


class SpeedPerturbationTest(unittest.TestCase):
    def test_duration_and_pitch_change_together(self) -> None:
        for factor in (0.9, 1.1, 1.5):
            samples = harmonic(220.0, SAMPLE_RATE)[None]
            faster, lengths = SpeedPerturbation(1.0, (factor,))(samples, torch.tensor([SAMPLE_RATE]), seeded())
            self.assertAlmostEqual(int(lengths), SAMPLE_RATE / factor, delta=1)
            self.assertAlmostEqual(fundamental(faster[0]) / 220, factor, delta=0.002)

    def test_a_tone_is_resampled_exactly(self) -> None:
        time = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
        window = torch.hann_window(SAMPLE_RATE, dtype=torch.float64)
        samples = (torch.sin(2 * torch.pi * 3000 * time) * window).float()[None]
        faster, lengths = SpeedPerturbation(1.0, (1.1,))(samples, torch.tensor([SAMPLE_RATE]), seeded())
        at = torch.arange(int(lengths), dtype=torch.float64) * 1.1
        expected = torch.sin(2 * torch.pi * 3000 * at / SAMPLE_RATE) * torch.sin(torch.pi * at / SAMPLE_RATE) ** 2
        error = (faster[0] - expected).norm() / expected.norm()
        self.assertLess(decibels(error), -80)

    def test_nothing_aliases(self) -> None:
        time = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
        samples = (torch.sin(2 * torch.pi * 7600 * time) * torch.hann_window(SAMPLE_RATE)).float()[None]
        faster, _ = SpeedPerturbation(1.0, (1.1,))(samples, torch.tensor([SAMPLE_RATE]), seeded())
        self.assertLess(decibels(faster.norm() / samples.norm()), -60)

    def test_each_factor_is_drawn(self) -> None:
        perturb = SpeedPerturbation(1.0, (0.5, 1.0, 2.0))
        _, lengths = perturb(torch.zeros(600, 100), torch.full((600,), 100), seeded())
        for length in (50, 100, 200):
            self.assertAlmostEqual(float((lengths == length).float().mean()), 1 / 3, delta=0.06)


if __name__ == "__main__":
    unittest.main()
