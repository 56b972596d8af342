"""Properties of all augmentations: draws, padding, independence of the batch, difficult inputs, wrong arguments."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hw_asr import augmentations
from hw_asr.config.registry import SPECTROGRAM_AUGMENTATIONS, WAVE_AUGMENTATIONS

FIXED: dict[str, dict[str, Any]] = {
    "Gain": {"min_gain_in_db": 3, "max_gain_in_db": 3},
    "PitchShift": {"min_transpose_semitones": 3, "max_transpose_semitones": 3},
    "TimeStretching": {"min_rate": 1.2, "max_rate": 1.2},
    "SpeedPerturbation": {"factors": (1.1,)},
    "RandomNoise": {"amplitude": 0.2},
    "Pauses": {"min_seconds": 0.1, "max_seconds": 0.1},
    "RoomImpulseResponse": {"min_rt60": 0.2, "max_rt60": 0.2, "min_drr_in_db": 3, "max_drr_in_db": 3},
}
"""Arguments that leave nothing to chance but noise."""
WAVE = tuple(FIXED)
SPECTROGRAM = ("FrequencyMasking", "TimeMasking", "SpecAugment")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str, **arguments: Any) -> Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]:
    augmentation: Callable[..., tuple[Tensor, Tensor]] = getattr(augmentations, name)(**arguments)
    return augmentation


def waves(lengths: list[int], size: int | None = None) -> tuple[Tensor, Tensor]:
    """Low-pass noise, the same for a row of the same length and place whatever the padding."""
    samples = torch.zeros(len(lengths), size or max(lengths))
    for row, length in enumerate(lengths):
        samples[row, :length] = torch.randn(length + 7, generator=seeded(row)).unfold(0, 8, 1).mean(dim=1) * 0.3
    return samples, torch.tensor(lengths)


def spectrograms(lengths: list[int], size: int | None = None) -> tuple[Tensor, Tensor]:
    features = torch.zeros(len(lengths), 20, size or max(lengths))
    for row, length in enumerate(lengths):
        features[row, :, :length] = torch.randn(20, length, generator=seeded(row)) - 5
    return features, torch.tensor(lengths)


class CommonTest(unittest.TestCase):
    def cases(self, p: float = 1.0) -> list[tuple[str, Any, Callable[..., tuple[Tensor, Tensor]]]]:
        return [(name, waves, make(name, p=p)) for name in WAVE] + [
            (name, spectrograms, make(name, p=p)) for name in SPECTROGRAM
        ]

    def test_registered(self) -> None:
        self.assertEqual(WAVE_AUGMENTATIONS.names(), sorted(WAVE))
        self.assertEqual(SPECTROGRAM_AUGMENTATIONS.names(), sorted(SPECTROGRAM))

    def test_same_seed_same_result(self) -> None:
        for name, inputs, augment in self.cases(p=0.6):
            with self.subTest(name):
                batch = inputs([3000, 2000, 2500, 100])
                one, other = augment(*batch, seeded(4)), augment(*batch, seeded(4))
                self.assertTrue(all(map(torch.equal, one, other)))
                results = [augment(*batch, seeded(seed))[0] for seed in range(12)]
                self.assertFalse(all(torch.equal(results[0], result) for result in results))

    def test_inputs_are_not_modified(self) -> None:
        for name, inputs, augment in self.cases():
            with self.subTest(name):
                batch = inputs([300, 200])
                copies = [tensor.clone() for tensor in batch]
                augment(*batch, seeded())
                self.assertTrue(all(map(torch.equal, batch, copies)))

    def test_share_of_changed_utterances_is_p(self) -> None:
        for p in (0.0, 0.3, 1.0):
            for name in (*WAVE, *SPECTROGRAM):
                num_rows = 300 if name in WAVE else 1000
                inputs = waves if name in WAVE else spectrograms
                with self.subTest(name, p=p):
                    samples, lengths = inputs([300] * num_rows)
                    changed, _ = make(name, p=p, **FIXED.get(name, {}))(samples, lengths, seeded())
                    size = min(changed.shape[-1], samples.shape[-1])
                    share = (changed[..., :size] != samples[..., :size]).flatten(1).any(dim=1).float().mean()
                    if name in WAVE:
                        self.assertAlmostEqual(float(share), p, delta=0.08)
                    else:  # a drawn width may be zero
                        self.assertTrue(0.9 * p - 0.05 <= float(share) <= p + 0.05)

    def test_padding_stays_zero_and_lengths_fit(self) -> None:
        for name, inputs, augment in self.cases(p=0.7):
            with self.subTest(name):
                for seed in range(4):
                    changed, lengths = augment(*inputs([900, 3000, 40, 2500, 1], 3100), seeded(seed))
                    self.assertEqual((lengths.shape, lengths.dtype), ((5,), torch.int64))
                    self.assertGreaterEqual(changed.shape[-1], int(lengths.max()))
                    padding = torch.arange(changed.shape[-1]) >= lengths[:, None]
                    beyond = changed.masked_select(padding if changed.dim() == 2 else padding[:, None])
                    self.assertFalse(beyond.any())

    def test_result_does_not_depend_on_padding(self) -> None:
        for name, inputs, augment in self.cases(p=0.7):
            with self.subTest(name):
                tight, tight_lengths = augment(*inputs([900, 2000, 1300]), seeded(2))
                loose, loose_lengths = augment(*inputs([900, 2000, 1300], 3500), seeded(2))
                self.assertTrue(torch.equal(tight_lengths, loose_lengths))
                size = int(tight_lengths.max())
                torch.testing.assert_close(tight[..., :size], loose[..., :size], rtol=0, atol=2e-5)

    def test_result_does_not_depend_on_the_batch(self) -> None:
        for name in WAVE:
            with self.subTest(name):
                augment = make(name, p=1.0, **FIXED[name])
                together, lengths = augment(*waves([900, 3000, 1300]), seeded())
                alone, length = augment(*waves([900]), seeded())
                self.assertEqual(int(lengths[0]), int(length))
                if name not in ("RandomNoise", "Pauses", "RoomImpulseResponse"):  # their noise is a draw, too
                    torch.testing.assert_close(together[0, : int(length)], alone[0], rtol=0, atol=2e-5)

    def test_hard_inputs_stay_finite(self) -> None:
        silence = torch.zeros(3, 500), torch.tensor([500, 300, 1])
        single = torch.full((2, 1), 0.5), torch.tensor([1, 1])
        empty = torch.zeros(2, 10), torch.tensor([10, 0])
        loud = waves([700, 20])[0] * 1e6, torch.tensor([700, 20])
        constant = torch.ones(2, 333), torch.tensor([333, 333])
        faint = waves([700, 20])[0] * 1e-30, torch.tensor([700, 20])
        for name in (*WAVE, *SPECTROGRAM):
            for index, (samples, lengths) in enumerate((silence, single, empty, loud, constant, faint)):
                with self.subTest(name, case=index):
                    inputs = samples if name in WAVE else samples[:, None].repeat(1, 4, 1)
                    changed, new_lengths = make(name, p=1.0)(inputs, lengths, seeded())
                    self.assertTrue(changed.isfinite().all())
                    self.assertTrue(torch.equal(new_lengths == 0, lengths == 0))
                    if samples is silence[0]:
                        self.assertFalse(changed.any())

    def test_wrong_arguments_are_named(self) -> None:
        for name in (*WAVE, *SPECTROGRAM):
            for p in (3, -0.1, float("nan")):
                with self.assertRaisesRegex(ValueError, r"^p: expected a probability in \[0, 1\], got"):
                    make(name, p=p)
        for name, argument, value in (
            ("Gain", "min_gain_in_db", 7),
            ("Gain", "max_gain_in_db", float("inf")),
            ("PitchShift", "max_transpose_semitones", 40),
            ("TimeStretching", "min_rate", 0),
            ("SpeedPerturbation", "factors", ()),
            ("SpeedPerturbation", "factors", (0.9, -1)),
            ("RandomNoise", "amplitude", 0),
            ("RandomNoise", "min_snr_in_db", 31),
            ("Pauses", "max_seconds", float("nan")),
            ("Pauses", "max_noise_in_db", 3),
            ("Pauses", "clicks_per_second", -1),
            ("RoomImpulseResponse", "min_rt60", 0),
            ("FrequencyMasking", "freq_mask_param", -1),
            ("TimeMasking", "time_mask_param", -1),
            ("SpecAugment", "time_mask_ratio", 1.5),
            ("SpecAugment", "num_freq_masks", -1),
        ):
            with self.subTest(name, argument=argument), self.assertRaisesRegex(ValueError, rf"^{argument}: expected"):
                make(name, **{argument: value})


if __name__ == "__main__":
    unittest.main()
