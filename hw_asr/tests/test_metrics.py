"""Error counts against a table-filling edit distance, and the definitions of the averages."""

from __future__ import annotations

import random
import unittest
from functools import cache

from hw_asr.metrics import ArgmaxCERMetric, ArgmaxWERMetric, ErrorRate, char_errors, word_errors


def edit_distance(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """The recursive definition (Wagner and Fischer 1974)."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        change = distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(reference), len(hypothesis))


class ErrorCountsTest(unittest.TestCase):
    def test_edits_are_minimal_and_account_for_the_lengths(self) -> None:
        rng = random.Random(0)
        for _ in range(300):
            reference = [rng.choice("abc") for _ in range(rng.randrange(8))]
            hypothesis = [rng.choice("abc") for _ in range(rng.randrange(8))]
            counts = word_errors(" ".join(reference), " ".join(hypothesis))
            self.assertEqual(edit_distance(tuple(reference), tuple(hypothesis)), counts.edits)
            self.assertEqual(len(reference), counts.length)
            self.assertEqual(len(hypothesis), counts.length - counts.deletions + counts.insertions)

    def test_kinds_of_errors(self) -> None:
        self.assertEqual((1, 0, 0, 3), word_errors("the cat sat", "the cat sit"))
        self.assertEqual((0, 1, 0, 3), word_errors("the cat sat", "the sat"))
        self.assertEqual((0, 0, 1, 3), word_errors("the cat sat", "the big cat sat"))
        self.assertEqual((1, 0, 0, 11), char_errors("the cat sat", "the cat sit"))

    def test_empty_reference_and_empty_hypothesis(self) -> None:
        self.assertEqual(1.0, word_errors("", "a b").rate)
        self.assertEqual(1.0, word_errors("", "").rate)
        self.assertEqual((0, 2, 0, 2), word_errors("a b", ""))
        self.assertEqual(1.0, word_errors("a b", "").rate)


class ErrorRateTest(unittest.TestCase):
    def test_mean_and_corpus_are_different_things(self) -> None:
        rate = ErrorRate()
        rate.add(word_errors("a", "b"))
        rate.add(word_errors("a b c d e f g h i", "a b c d e f g h i"))
        self.assertAlmostEqual(0.5, rate.mean)
        self.assertAlmostEqual(0.1, rate.corpus)
        self.assertEqual(2, rate.num_utterances)

    def test_nothing_added_is_not_zero(self) -> None:
        self.assertNotEqual(ErrorRate().mean, ErrorRate().mean)
        self.assertNotEqual(ErrorRate().corpus, ErrorRate().corpus)

    def test_sums_of_totals_are_exact(self) -> None:
        pairs = [("a b c", "a c"), ("d", "d e f"), ("", "x"), ("g h", "")]
        whole, parts = ErrorRate(), [ErrorRate(), ErrorRate()]
        for index, pair in enumerate(pairs):
            whole.add(word_errors(*pair))
            parts[index % 2].add(word_errors(*pair))
        merged = ErrorRate()
        merged.totals = [sum(values) for values in zip(*(part.totals for part in parts), strict=True)]
        self.assertEqual(whole.corpus, merged.corpus)
        self.assertAlmostEqual(whole.mean, merged.mean, places=12)


class MetricTest(unittest.TestCase):
    def test_names_and_values(self) -> None:
        metric = ArgmaxWERMetric(name="WER (argmax)")
        metric.update("a b", {"argmax": "a c"})
        self.assertEqual({"WER (argmax)": 0.5, "WER (argmax) corpus": 0.5}, metric.compute())
        self.assertEqual(list(metric.compute()), metric.names())
        metric.reset()
        metric.update("a b", {"argmax": "a b"})
        self.assertEqual(0.0, metric.compute()["WER (argmax)"])

    def test_each_metric_scores_its_own_unit(self) -> None:
        metric = ArgmaxCERMetric()
        metric.update("abcd", {"argmax": "abxd"})
        self.assertEqual(0.25, metric.compute()["CER (argmax)"])


if __name__ == "__main__":
    unittest.main()
