"""Masks over spectrograms: their sizes, positions and values."""

from __future__ import annotations

import unittest

import torch
from torch import Tensor

from hw_asr.augmentations import FrequencyMasking, SpecAugment, TimeMasking

BINS, FRAMES, ROWS = 40, 200, 400


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(num_rows: int = ROWS, shortest: int = FRAMES) -> tuple[Tensor, Tensor]:
    lengths = torch.linspace(FRAMES, shortest, num_rows).long()
    spectrogram = torch.randn(num_rows, BINS, FRAMES, generator=seeded(9)) - 6
    return spectrogram * (torch.arange(FRAMES) < lengths[:, None])[:, None], lengths


def widths(changed: Tensor) -> Tensor:
    """Numbers of true positions along the last axis; they must be adjacent."""
    edges = torch.nn.functional.pad(changed.int(), (1, 1)).diff(dim=-1)
    assert (edges.clamp(min=0).sum(dim=-1) <= 1).all()
    return changed.sum(dim=-1)


class MaskTest(unittest.TestCase):
    def test_frequency_masks(self) -> None:
        spectrogram, lengths = batch()
        masked, _ = FrequencyMasking(1.0, 12)(spectrogram, lengths, seeded())
        changed = masked != spectrogram
        self.assertTrue(torch.equal(changed.any(dim=2), changed.all(dim=2)))
        counts = torch.bincount(widths(changed.any(dim=2)), minlength=13)
        self.assertEqual(len(counts), 13)
        self.assertTrue((counts > ROWS / 13 / 2).all())
        touched = changed.any(dim=2).float().mean(dim=0)
        self.assertTrue((touched > 0).all())

    def test_time_masks_stay_inside_the_utterance(self) -> None:
        spectrogram, lengths = batch(shortest=10)
        masked, _ = TimeMasking(1.0, 50)(spectrogram, lengths, seeded())
        changed = (masked != spectrogram).any(dim=1)
        self.assertTrue(torch.equal(changed, (masked != spectrogram).all(dim=1)))
        self.assertTrue((widths(changed) <= lengths.div(2, rounding_mode="floor").clamp(max=50)).all())
        self.assertEqual(int(widths(changed).max()), 50)
        self.assertFalse((changed & (torch.arange(FRAMES) >= lengths[:, None])).any())
        last = changed[torch.arange(ROWS), lengths - 1]
        self.assertTrue(0 < int(last.sum()) < ROWS)

    def test_share_hidden_by_spec_augment(self) -> None:
        spectrogram, lengths = batch()
        augment = SpecAugment(1.0, 2, 8, 3, 30, time_mask_ratio=0.1)
        masked, _ = augment(spectrogram, lengths, seeded())
        changed = masked != spectrogram
        bins, frames = changed.all(dim=2).sum(dim=1), changed.all(dim=1).sum(dim=1)
        self.assertTrue(10 < int(bins.max()) <= 16)
        self.assertTrue(45 < int(frames.max()) <= 60)  # 3 masks of at most 0.1 * 200 frames
        self.assertAlmostEqual(float(bins.float().mean()), 8 * (1 - 0.5 * 4 / BINS), delta=0.8)
        self.assertAlmostEqual(float(frames.float().mean()), 30, delta=3)
        self.assertTrue(torch.equal(changed, changed.all(dim=2)[:, :, None] | changed.all(dim=1)[:, None, :]))

    def test_masked_cells_hold_the_mean_of_their_bin(self) -> None:
        spectrogram, lengths = batch(20, shortest=50)
        masked, _ = SpecAugment()(spectrogram, lengths, seeded())
        for row, length in enumerate(lengths.tolist()):
            mean = spectrogram[row, :, :length].mean(dim=1, keepdim=True).expand(BINS, length)
            hidden = masked[row, :, :length] != spectrogram[row, :, :length]
            self.assertTrue(hidden.any())
            torch.testing.assert_close(masked[row, :, :length][hidden], mean[hidden])

    def test_masks_are_zero_once_the_features_are_centred(self) -> None:
        spectrogram, lengths = batch(5)
        masked, _ = SpecAugment()(spectrogram, lengths, seeded())
        centred = masked - masked.mean(dim=2, keepdim=True)
        bins = (masked != spectrogram).all(dim=2)
        self.assertLess(float(centred[bins].abs().max()), 1e-5)

    def test_no_width_no_change(self) -> None:
        spectrogram, lengths = batch(10)
        for augment in (FrequencyMasking(1.0, 0), TimeMasking(1.0, 0), SpecAugment(1.0, 0, 5, 0, 5)):
            self.assertTrue(torch.equal(augment(spectrogram, lengths, seeded())[0], spectrogram))

    def test_wider_than_the_features(self) -> None:
        spectrogram, lengths = batch(50)
        masked, _ = FrequencyMasking(1.0, 1000)(spectrogram, lengths, seeded())
        self.assertEqual(int((masked != spectrogram).all(dim=2).sum(dim=1).max()), BINS)


if __name__ == "__main__":
    unittest.main()
