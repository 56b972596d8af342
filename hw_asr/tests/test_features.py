"""The front end against torchaudio on each utterance by itself."""

from __future__ import annotations

import unittest
import warnings
from typing import Any
from unittest import mock

import torch
import torchaudio

from hw_asr.features import LOG_OFFSET, FeatureExtractor


def mel(**arguments: int) -> torchaudio.transforms.MelSpectrogram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torchaudio.transforms.MelSpectrogram(**arguments)


def padded(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    samples = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(samples, lengths, strict=True):
        row[:length] = torch.randn(length, generator=generator)
    return samples, torch.tensor(lengths)


class FeatureExtractorTest(unittest.TestCase):
    def test_a_batch_gives_what_torchaudio_gives_each_utterance_alone(self) -> None:
        reference = mel()
        front_end = FeatureExtractor(mel(), log=True)
        samples, lengths = padded([16000, 8001, 7999, 401, 201])
        features, frames = front_end(samples, lengths)
        for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
            expected = torch.log(reference(row[None, :length]) + LOG_OFFSET)[0]
            self.assertEqual(expected.shape[1], num_frames)
            torch.testing.assert_close(found[:, :num_frames], expected, atol=1e-5, rtol=1e-5)
            self.assertFalse(found[:, num_frames:].any())

    def test_company_does_not_matter(self) -> None:
        for normalize in ("none", "utterance"):
            front_end = FeatureExtractor(mel(n_mels=40), log=True, normalize=normalize)  # type: ignore[arg-type]
            samples, lengths = padded([5000, 16000, 150, 1, 3000])
            features, frames = front_end(samples, lengths)
            for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
                alone, _ = front_end(row[None, :length], length[None])
                torch.testing.assert_close(found[:, :num_frames], alone[0], atol=1e-5, rtol=1e-4)

    def test_alone_or_in_company_to_the_last_bit_on_a_cpu(self) -> None:
        front_end = FeatureExtractor(mel(n_mels=40), log=True)
        samples, lengths = padded([5000, 16000, 150, 3000])
        features, frames = front_end(samples, lengths)
        alone, _ = front_end(samples[:1, :5000], lengths[:1])
        self.assertTrue(torch.equal(features[0, :, : int(frames[0])], alone[0]))

    def test_every_transform_gives_what_it_gives_each_utterance_alone(self) -> None:
        spectrogram, mfcc = torchaudio.transforms.Spectrogram, torchaudio.transforms.MFCC
        arguments: list[tuple[type[torch.nn.Module], dict[str, Any]]] = [
            (torchaudio.transforms.MelSpectrogram, {"n_fft": 512, "win_length": 401, "hop_length": 160, "n_mels": 64}),
            (torchaudio.transforms.MelSpectrogram, {"power": 1.0, "n_mels": 64}),
            (torchaudio.transforms.MelSpectrogram, {"normalized": True, "norm": "slaney", "mel_scale": "slaney"}),
            (torchaudio.transforms.MelSpectrogram, {"window_fn": torch.hamming_window, "n_mels": 64}),
            (spectrogram, {"n_fft": 256}),
            (spectrogram, {"n_fft": 256, "win_length": 200, "power": 1.0}),
            (spectrogram, {"n_fft": 255, "normalized": "frame_length"}),
            (spectrogram, {"n_fft": 64, "onesided": False}),
            (mfcc, {"sample_rate": 16000, "n_mfcc": 13, "melkwargs": {"n_mels": 40}}),
        ]
        samples, lengths = padded([4000, 3001, 1000])
        for kind, settings in arguments:
            with self.subTest(kind=kind.__name__, settings=settings), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reference = kind(**settings)
                features, frames = FeatureExtractor(kind(**settings), log=False)(samples, lengths)
                for row, length, num_frames, found in zip(samples, lengths, frames, features, strict=True):
                    expected = reference(row[None, :length])[0]
                    self.assertEqual(expected.shape[1], num_frames)
                    torch.testing.assert_close(found[:, :num_frames], expected, atol=1e-5, rtol=1e-4)
                    self.assertFalse(found[:, num_frames:].any())

    def test_all_rows_at_once_as_on_a_gpu(self) -> None:
        for kind in (mel(n_mels=40), torchaudio.transforms.Spectrogram(n_fft=128)):
            front_end = FeatureExtractor(kind, log=True, normalize="utterance")
            samples, lengths = padded([5000, 16000, 150, 1, 3000])
            expected, _ = front_end(samples, lengths)
            with mock.patch.object(torch.Tensor, "is_cpu", False):
                found, _ = front_end(samples, lengths)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_frame_counts_of_every_length(self) -> None:
        front_end = FeatureExtractor(mel(n_mels=8), log=False)
        for length in (1, 2, 199, 200, 201, 399, 400, 401, 1000):
            _, frames = front_end(torch.ones(1, length), torch.tensor([length]))
            self.assertEqual(1 + length // 200, int(frames))
        self.assertEqual([0, 1, 2], front_end.num_frames(torch.tensor([0, 1, 200])).tolist())

    def test_normalised_features_have_mean_zero_and_variance_one(self) -> None:
        front_end = FeatureExtractor(mel(n_mels=20), log=True, normalize="utterance")
        features, frames = front_end(*padded([16000, 9000]))
        inside = features[1, :, : int(frames[1])]
        torch.testing.assert_close(inside.mean(dim=1), torch.zeros(20), atol=1e-4, rtol=0)
        torch.testing.assert_close(inside.std(dim=1, unbiased=False), torch.ones(20), atol=1e-3, rtol=0)

    def test_uncentred_frames(self) -> None:
        transform = torchaudio.transforms.Spectrogram(n_fft=64, hop_length=16, center=False)
        front_end = FeatureExtractor(
            torchaudio.transforms.Spectrogram(n_fft=64, hop_length=16, center=False), log=False
        )
        samples, lengths = padded([320, 100, 63])
        features, frames = front_end(samples, lengths)
        self.assertEqual([17, 3, 0], frames.tolist())
        torch.testing.assert_close(features[1, :, :3], transform(samples[1:2, :100])[0])

    def test_empty_batch_rows(self) -> None:
        features, frames = FeatureExtractor(mel(), log=True)(torch.zeros(2, 0), torch.tensor([0, 0]))
        self.assertEqual([0, 0], frames.tolist())
        self.assertFalse(features.any())

    def test_what_cannot_be_a_front_end_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "no torchaudio Spectrogram"):
            FeatureExtractor(torchaudio.transforms.MuLawEncoding(), log=True)
        with self.assertRaisesRegex(ValueError, "logarithmic already"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FeatureExtractor(torchaudio.transforms.MFCC(), log=True)


if __name__ == "__main__":
    unittest.main()
