"""The objective against enumeration of all alignments and torch's own mean."""

from __future__ import annotations

import itertools
import math
import unittest

import torch

from hw_asr.loss import CTCLoss
from hw_asr.text.encoder import CTCCharTextEncoder


def probability(probs: torch.Tensor, text: str, encoder: CTCCharTextEncoder) -> float:
    """Sum the probabilities of all paths that collapse to the text."""
    num_frames, num_classes = probs.shape
    return sum(
        math.prod(float(probs[frame, label]) for frame, label in enumerate(path))
        for path in itertools.product(range(num_classes), repeat=num_frames)
        if encoder.collapse(path) == text
    )


class CTCLossTest(unittest.TestCase):
    def setUp(self) -> None:
        torch.manual_seed(0)
        self.encoder = CTCCharTextEncoder("ab")
        self.log_probs = torch.randn(3, 4, 3).log_softmax(dim=-1)

    def test_intermediate_layers_have_their_share(self) -> None:
        lengths, targets, sizes = (
            torch.tensor([4, 3, 2]),
            torch.tensor([[1, 2], [1, 1], [2, 0]]),
            torch.tensor([2, 2, 1]),
        )
        inner = [torch.randn(3, 4, 3).log_softmax(dim=-1) for _ in range(2)]
        plain = CTCLoss()
        values = [plain(each, lengths, targets, sizes).values for each in (self.log_probs, *inner)]
        result = CTCLoss(intermediate_weight=0.25)(self.log_probs, lengths, targets, sizes, inner)
        expected = 0.75 * values[0] + 0.125 * (values[1] + values[2])
        torch.testing.assert_close(result.values, expected)
        torch.testing.assert_close(
            CTCLoss(intermediate_weight=0.25)(self.log_probs, lengths, targets, sizes).values, values[0]
        )
        with self.assertRaisesRegex(ValueError, "intermediate_weight: expected a number in"):
            CTCLoss(intermediate_weight=1.0)

    def test_equals_enumeration(self) -> None:
        texts, lengths = ["ab", "aa", "b"], torch.tensor([4, 3, 2])
        targets = torch.tensor([[1, 2], [1, 1], [2, 0]])
        found = CTCLoss(normalize_by_length=False)(self.log_probs, lengths, targets, torch.tensor([2, 2, 1]))
        for row, length, text, value in zip(self.log_probs, lengths, texts, found.values, strict=True):
            self.assertAlmostEqual(
                -math.log(probability(row[:length].exp(), text, self.encoder)), float(value), places=4
            )
        self.assertFalse(found.infeasible.any())

    def test_mean_is_torchs_mean(self) -> None:
        lengths, targets, sizes = (
            torch.tensor([4, 4, 4]),
            torch.tensor([[1, 2], [2, 1], [1, 0]]),
            torch.tensor([2, 2, 1]),
        )
        expected = torch.nn.CTCLoss(blank=0, reduction="mean")(self.log_probs.transpose(0, 1), targets, lengths, sizes)
        self.assertAlmostEqual(
            float(expected), float(CTCLoss()(self.log_probs, lengths, targets, sizes).values.mean()), 5
        )

    def test_a_target_without_a_path_counts_nothing_and_is_reported(self) -> None:
        logits = torch.randn(2, 2, 3, requires_grad=True)
        targets, sizes = torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 2])
        found = CTCLoss()(logits.log_softmax(dim=-1), torch.tensor([2, 2]), targets, sizes)
        self.assertEqual([True, False], found.infeasible.tolist())
        self.assertEqual(0.0, float(found.values[0]))
        found.values.sum().backward()
        self.assertFalse(logits.grad[0].any())
        self.assertTrue(torch.isfinite(logits.grad).all())

    def test_empty_target(self) -> None:
        found = CTCLoss()(self.log_probs[:1], torch.tensor([4]), torch.zeros(1, 0, dtype=torch.long), torch.tensor([0]))
        self.assertAlmostEqual(-float(self.log_probs[0, :, 0].sum()), float(found.values[0]), places=5)


if __name__ == "__main__":
    unittest.main()
