"""The front end against its transform applied to each utterance by itself."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

import torch

from hw_asr.features import LOG_OFFSET, FeatureExtractor
from hw_asr.spectrograms import MFCC, MelSpectrogram, Spectrogram
from hw_asr.tests.test_spectrograms import MISSING, torchaudio


def padded(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    samples = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(samples, lengths, strict=True):
        row[:length] = torch.randn(length, generator=generator)
    return samples, torch.tensor(lengths)


class FeatureExtractorTest(unittest.TestCase):
    def test_a_batch_gives_what_each_utterance_gives_alone(self) -> None:
        reference = MelSpectrogram()
        front_end = FeatureExtractor(MelSpectrogram(), log=True)
        samples, lengths = padded([16000, 8001, 7999, 401, 201])
        features, frames = front_end(samples, lengths)
        for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
            expected = torch.log(reference(row[None, :length]) + LOG_OFFSET)[0]
            self.assertEqual(expected.shape[1], num_frames)
            torch.testing.assert_close(found[:, :num_frames], expected, atol=1e-5, rtol=1e-5)
            self.assertFalse(found[:, num_frames:].any())

    def test_features_do_not_depend_on_the_batch(self) -> None:
        for normalize in ("none", "utterance"):
            front_end = FeatureExtractor(MelSpectrogram(n_mels=40), log=True, normalize=normalize)  # type: ignore[arg-type]
            samples, lengths = padded([5000, 16000, 150, 1, 3000])
            features, frames = front_end(samples, lengths)
            for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
                alone, _ = front_end(row[None, :length], length[None])
                torch.testing.assert_close(found[:, :num_frames], alone[0], atol=1e-5, rtol=1e-4)

    def test_features_on_a_cpu_do_not_depend_on_the_batch_to_the_last_bit(self) -> None:
        front_end = FeatureExtractor(MelSpectrogram(n_mels=40), log=True)
        samples, lengths = padded([5000, 16000, 150, 3000])
        features, frames = front_end(samples, lengths)
        alone, _ = front_end(samples[:1, :5000], lengths[:1])
        self.assertTrue(torch.equal(features[0, :, : int(frames[0])], alone[0]))

    def test_every_transform_gives_what_it_gives_each_utterance_alone(self) -> None:
        arguments: list[tuple[type[torch.nn.Module], dict[str, Any]]] = [
            (MelSpectrogram, {"n_fft": 512, "win_length": 401, "hop_length": 160, "n_mels": 64}),
            (MelSpectrogram, {"power": 1.0, "n_mels": 64}),
            (MelSpectrogram, {"normalized": True, "norm": "slaney", "mel_scale": "slaney"}),
            (MelSpectrogram, {"window_fn": torch.hamming_window, "n_mels": 64}),
            (Spectrogram, {"n_fft": 256}),
            (Spectrogram, {"n_fft": 256, "win_length": 200, "power": 1.0}),
            (Spectrogram, {"n_fft": 255, "normalized": "frame_length"}),
            (Spectrogram, {"n_fft": 64, "onesided": False}),
            (MFCC, {"sample_rate": 16000, "n_mfcc": 13, "melkwargs": {"n_mels": 40}}),
        ]
        samples, lengths = padded([4000, 3001, 1000])
        for kind, settings in arguments:
            with self.subTest(kind=kind.__name__, settings=settings):
                reference = kind(**settings)
                features, frames = FeatureExtractor(kind(**settings), log=False)(samples, lengths)
                for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
                    expected = reference(row[None, :length])[0]
                    self.assertEqual(expected.shape[1], num_frames)
                    torch.testing.assert_close(found[:, :num_frames], expected, atol=1e-5, rtol=1e-4)
                    self.assertFalse(found[:, num_frames:].any())

    def test_all_rows_at_once_as_on_a_gpu(self) -> None:
        for kind in (MelSpectrogram(n_mels=40), Spectrogram(n_fft=128), MFCC(n_mfcc=13, melkwargs={"n_mels": 40})):
            front_end = FeatureExtractor(kind, log=not isinstance(kind, MFCC), normalize="utterance")
            samples, lengths = padded([5000, 16000, 150, 1, 3000])
            expected, _ = front_end(samples, lengths)
            with mock.patch.object(torch.Tensor, "is_cpu", False):
                found, _ = front_end(samples, lengths)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_frame_counts_of_every_length(self) -> None:
        front_end = FeatureExtractor(MelSpectrogram(n_mels=8), log=False)
        for length in (1, 2, 199, 200, 201, 399, 400, 401, 1000):
            _, frames = front_end(torch.ones(1, length), torch.tensor([length]))
            self.assertEqual(1 + length // 200, int(frames))
        self.assertEqual([0, 1, 2], front_end.num_frames(torch.tensor([0, 1, 200])).tolist())

    def test_normalised_features_have_mean_zero_and_variance_one(self) -> None:
        front_end = FeatureExtractor(MelSpectrogram(n_mels=20), log=True, normalize="utterance")
        features, frames = front_end(*padded([16000, 9000]))
        inside = features[1, :, : int(frames[1])]
        torch.testing.assert_close(inside.mean(dim=1), torch.zeros(20), atol=1e-4, rtol=0)
        torch.testing.assert_close(inside.std(dim=1, unbiased=False), torch.ones(20), atol=1e-3, rtol=0)

    def test_uncentred_frames(self) -> None:
        transform = Spectrogram(n_fft=64, hop_length=16, center=False)
        front_end = FeatureExtractor(Spectrogram(n_fft=64, hop_length=16, center=False), log=False)
        samples, lengths = padded([320, 100, 63])
        features, frames = front_end(samples, lengths)
        self.assertEqual([17, 3, 0], frames.tolist())
        torch.testing.assert_close(features[1, :, :3], transform(samples[1:2, :100])[0])

    def test_empty_batch_rows(self) -> None:
        features, frames = FeatureExtractor(MelSpectrogram(), log=True)(torch.zeros(2, 0), torch.tensor([0, 0]))
        self.assertEqual([0, 0], frames.tolist())
        self.assertFalse(features.any())

    @unittest.skipIf(MISSING, MISSING)
    def test_a_transform_of_torchaudio(self) -> None:
        kind = torchaudio.transforms.LFCC
        features, frames = FeatureExtractor(kind(n_lfcc=20), log=False)(*padded([4000, 3001]))
        expected = kind(n_lfcc=20)(padded([4000, 3001])[0][1:, :3001])[0]
        torch.testing.assert_close(features[1, :, : int(frames[1])], expected, atol=1e-4, rtol=1e-4)

    def test_transforms_that_do_not_fit(self) -> None:
        for transform, log, message in (
            (torch.nn.Identity(), True, "Identity contains no short-time Fourier transform"),
            (MFCC(), True, "MFCC is logarithmic already"),
            (Spectrogram(pad=10), False, "pad must be 0, got 10"),
            (Spectrogram(pad_mode="circular"), False, "pad_mode must be reflect or constant"),
            (Spectrogram(power=None), False, "power must be a number, got null"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                FeatureExtractor(transform, log)


if __name__ == "__main__":
    unittest.main()
