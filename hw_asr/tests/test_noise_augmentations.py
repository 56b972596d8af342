"""Noise and reverberation: loudness, recordings, time."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import Tensor

from hw_asr.augmentations import Pauses, RandomNoise, RoomImpulseResponse, recordings
from hw_asr.augmentations.recordings import Recordings, RecordingsError
from hw_asr.augmentations.reverberation import convolve, synthetic_response
from hw_asr.datasets.audio import read_recording
from hw_asr.datasets.recording import Recording

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech_like(num_rows: int, num_samples: int) -> Tensor:
    return torch.randn(num_rows, num_samples, generator=seeded(7)) * torch.linspace(0.01, 0.3, num_rows)[:, None]


def snrs(samples: Tensor, noisy: Tensor) -> Tensor:
    return 20 * torch.log10(samples.norm(dim=1) / (noisy - samples).norm(dim=1))


class NoiseTest(unittest.TestCase):
    def test_snr_is_as_configured_at_any_loudness(self) -> None:
        samples, lengths = speech_like(6, 4000), torch.tensor([4000, 3000, 2000, 1000, 500, 4000])
        samples *= torch.arange(4000) < lengths[:, None]
        noisy, _ = RandomNoise(1.0, min_snr_in_db=12, max_snr_in_db=12)(samples, lengths, seeded())
        torch.testing.assert_close(snrs(samples, noisy), torch.full((6,), 12.0), rtol=0, atol=0.01)

    def test_snr_range(self) -> None:
        samples = speech_like(300, 200)
        noisy, _ = RandomNoise(1.0, min_snr_in_db=0, max_snr_in_db=20)(samples, torch.full((300,), 200), seeded())
        measured = snrs(samples, noisy)
        self.assertTrue(-0.01 < float(measured.min()) < 1 and 19 < float(measured.max()) < 20.01)

    def test_amplitude_is_a_share_of_the_signal(self) -> None:
        samples = speech_like(4, 1000)
        noisy, _ = RandomNoise(1.0, amplitude=0.1)(samples, torch.full((4,), 1000), seeded())
        torch.testing.assert_close((noisy - samples).norm(dim=1) / samples.norm(dim=1), torch.full((4,), 0.1))

    def test_noise_is_white_and_differs_between_rows(self) -> None:
        samples = torch.ones(2, 8000)
        noisy, _ = RandomNoise(1.0, amplitude=1.0)(samples, torch.full((2,), 8000), seeded())
        noise = noisy - samples
        self.assertLess(abs(float((noise[0] * noise[1]).mean())), 0.05)
        bands = (torch.fft.rfft(noise[0]).abs() ** 2)[1:].reshape(4, -1).mean(dim=1)
        self.assertLess(float(bands.max() / bands.min()), 1.3)


class PausesTest(unittest.TestCase):
    def test_speech_lies_between_pauses_of_noise_and_clicks(self) -> None:
        samples, lengths = speech_like(5, 8000), torch.tensor([8000, 8000, 4000, 100, 0])
        samples *= torch.arange(8000) < lengths[:, None]
        loudness = 20 * torch.log10(samples[:3].norm(dim=1) / lengths[:3].sqrt())
        pauses = {"min_seconds": 0.25, "max_seconds": 0.25, "min_noise_in_db": -40, "max_noise_in_db": -40}
        quiet, quiet_lengths = Pauses(1.0, clicks_per_second=0, **pauses)(samples, lengths, seeded())
        clicking, clicking_lengths = Pauses(1.0, clicks_per_second=8, **pauses)(samples, lengths, seeded())
        for changed_lengths in (quiet_lengths, clicking_lengths):
            self.assertEqual(changed_lengths.tolist(), [16000, 16000, 12000, 8100, 0])
        for row, length in enumerate(lengths[:3].tolist()):
            noise = quiet[row, : length + 8000].clone()
            noise[4000 : 4000 + length] -= samples[row, :length]
            self.assertAlmostEqual(20 * float(torch.log10(noise.std())) - float(loudness[row]), -40, delta=0.3)
            clicks = clicking[row] - quiet[row]
            self.assertEqual(float(clicks[4000 : 4000 + length].abs().max()), 0)
            for pause in (clicks[:4000], clicks[4000 + length : length + 8000]):
                self.assertTrue(-10 < 20 * float(torch.log10(pause.abs().max())) - float(loudness[row]) < 24)

    def test_lengths_lie_in_the_range_and_fill_it(self) -> None:
        added = Pauses(1.0, 0.01, 0.03)(torch.ones(300, 10), torch.full((300,), 10), seeded())[1] - 10
        self.assertTrue(320 <= int(added.min()) < 450 and 830 < int(added.max()) <= 960)


class RecordedNoiseTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, samples: np.ndarray, sample_rate: int = 16_000) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, sample_rate, subtype="FLOAT")

    def test_a_section_of_the_recording_is_added(self) -> None:
        ramp = np.arange(5000, dtype=np.float32) / 10000 + 0.1
        self.write("deep/ramp.wav", ramp)
        samples = speech_like(1, 2000)
        noise = RandomNoise(1.0, noise_dir=self.directory, min_snr_in_db=5, max_snr_in_db=5)
        noisy, _ = noise(samples, torch.tensor([2000]), seeded())
        self.assertAlmostEqual(float(snrs(samples, noisy)), 5, delta=0.01)
        step = (noisy - samples)[0].diff()
        torch.testing.assert_close(step, step.mean().expand(1999), rtol=0.02, atol=1e-7)

    def test_a_short_recording_is_repeated(self) -> None:
        self.write("short.wav", np.random.default_rng(0).normal(size=70).astype(np.float32) * 0.1)
        samples = speech_like(1, 1000)
        noisy, _ = RandomNoise(1.0, noise_dir=self.directory, amplitude=0.5)(samples, torch.tensor([1000]), seeded())
        added = (noisy - samples)[0]
        torch.testing.assert_close(added[70:], added[:-70], rtol=0, atol=1e-6)

    def test_broken_recordings_are_skipped_and_named(self) -> None:
        self.write("b.wav", np.full(100, 0.5, np.float32))
        (self.directory / "a.wav").write_bytes(b"no audio")
        noise = RandomNoise(1.0, noise_dir=self.directory)
        with self.assertLogs("hw_asr", "WARNING") as log:
            for seed in range(8):
                noisy, _ = noise(torch.ones(2, 50), torch.full((2,), 50), seeded(seed))
                self.assertFalse(torch.equal(noisy, torch.ones(2, 50)))
        self.assertEqual(len(log.output), 1)
        self.assertIn("a.wav", log.output[0])

    def test_no_recordings_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "^noise_dir: expected .* but .*missing has none"):
            RandomNoise(noise_dir=self.directory / "missing")
        with self.assertRaisesRegex(ValueError, "^ir_dir: expected .* has none"):
            RoomImpulseResponse(ir_dir=self.directory)
        (self.directory / "a.wav").write_bytes(b"no audio")
        with self.assertRaisesRegex(RecordingsError, "can be decoded"), self.assertLogs("hw_asr"):
            RandomNoise(1.0, noise_dir=self.directory)(torch.ones(1, 50), torch.tensor([50]), seeded())

    def test_silent_noise_changes_nothing(self) -> None:
        self.write("silence.wav", np.zeros(100, np.float32))
        samples = speech_like(2, 300)
        noisy, _ = RandomNoise(1.0, noise_dir=self.directory)(samples, torch.full((2,), 300), seeded())
        self.assertTrue(torch.equal(noisy, samples))

    def test_linked_directories_are_searched(self) -> None:
        self.write("noises/a.wav", np.full(100, 0.5, np.float32))
        (self.directory / "links").mkdir()
        (self.directory / "links" / "noises").symlink_to(self.directory / "noises")
        noisy, _ = RandomNoise(1.0, noise_dir=self.directory / "links")(torch.ones(1, 50), torch.tensor([50]), seeded())
        self.assertFalse(torch.equal(noisy, torch.ones(1, 50)))

    def test_of_a_long_recording_only_a_section_is_decoded(self) -> None:
        self.write("long.wav", np.arange(50_000, dtype=np.float32) / 100_000)
        kept, decoded = Recordings("noise_dir", self.directory, 16_000), []

        def counted(*args: Any) -> Recording:
            decoded.append(read_recording(*args))
            return decoded[-1]

        for start in (0.0, 0.25, 0.999):
            whole = kept.pick(0.0, start, 1000)
            first = round(start * (len(whole) - 1000))
            with (
                mock.patch.object(recordings, "MAX_CACHED_SECONDS", 1),
                mock.patch.object(recordings, "read_recording", counted),
            ):
                section = Recordings("noise_dir", self.directory, 16_000).pick(0.0, start, 1000)
            torch.testing.assert_close(section, whole[first : first + 1000])
        self.assertEqual([len(recording.samples) for recording in decoded], [1000] * 3)

    def test_a_silent_response_keeps_the_row(self) -> None:
        self.write("silence.wav", np.zeros(200, np.float32))
        samples = speech_like(2, 400)
        wet, _ = RoomImpulseResponse(1.0, ir_dir=self.directory)(samples, torch.full((2,), 400), seeded())
        torch.testing.assert_close(wet, samples)

    def test_recorded_response_is_taken_from_its_peak(self) -> None:
        response = np.zeros(200, np.float32)
        response[[50, 90]] = [0.8, 0.4]
        self.write("room.wav", response)
        samples = torch.zeros(1, 400)
        samples[0, 100] = 1.0
        wet, _ = RoomImpulseResponse(1.0, ir_dir=self.directory)(samples, torch.tensor([400]), seeded())
        self.assertEqual(wet[0].abs().topk(2).indices.tolist(), [100, 140])
        self.assertAlmostEqual(float(wet[0, 140] / wet[0, 100]), 0.5, delta=1e-4)


class RoomTest(unittest.TestCase):
    def test_convolution_against_the_sum(self) -> None:
        samples, responses = torch.randn(3, 40, generator=seeded(1)), torch.randn(3, 17, generator=seeded(2))
        expected = [np.convolve(x, h)[:40] for x, h in zip(samples.numpy(), responses.numpy(), strict=True)]
        torch.testing.assert_close(convolve(samples, responses), torch.from_numpy(np.stack(expected)))

    def test_synthetic_room_has_the_given_decay(self) -> None:
        for rt60 in (0.2, 0.6):
            response = synthetic_response(rt60, 6.0, 1, 16_000, CPU)
            self.assertEqual(float(response[0]), 1.0)
            tail = response[40:]
            self.assertAlmostEqual(float(10 * torch.log10(tail.square().sum())), -6.0, delta=0.05)
            energy = tail.square().flip(0).cumsum(0).flip(0)  # Schroeder's backward integration
            level = 10 * torch.log10(energy / energy[0])
            fall = int((level < -5).nonzero()[0]), int((level < -25).nonzero()[0])
            self.assertAlmostEqual(3 * (fall[1] - fall[0]) / 16_000, rt60, delta=0.1 * rt60)

    def test_length_loudness_and_time_do_not_change(self) -> None:
        samples = speech_like(5, 8000) * (torch.arange(8000) > 1000)
        lengths = torch.tensor([8000, 7000, 6000, 5000, 4000])
        samples *= torch.arange(8000) < lengths[:, None]
        wet, wet_lengths = RoomImpulseResponse(1.0)(samples, lengths, seeded())
        self.assertTrue(torch.equal(wet_lengths, lengths))
        torch.testing.assert_close(wet.norm(dim=1), samples.norm(dim=1), rtol=1e-4, atol=0)
        self.assertLess(float(wet[:, :1000].abs().max()), 1e-5)
        correlation = torch.fft.irfft(torch.fft.rfft(wet, 16384) * torch.fft.rfft(samples, 16384).conj())
        self.assertEqual(correlation.argmax(dim=1).tolist(), [0] * 5)


if __name__ == "__main__":
    unittest.main()
