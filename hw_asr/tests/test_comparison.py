"""Intervals and differences of error rates: against closed forms, and paired by recording."""

from __future__ import annotations

import math
import unittest
from statistics import NormalDist
from unittest import mock

import numpy as np

from hw_asr.report.comparison import comparison_data, summary
from hw_asr.report.results import ReportError
from hw_asr.report.statistics import compare, interval, resampled_rates
from hw_asr.tests.report_case import result


class StatisticsTest(unittest.TestCase):
    def test_the_interval_is_that_of_the_normal_approximation(self) -> None:
        generator = np.random.default_rng(1)
        lengths = np.full((2000, 1), 10.0)
        errors = generator.binomial(10, 0.2, size=(2000, 1)).astype(float)
        found = interval(errors, lengths)[0]
        assert found is not None
        half = 1.96 * float(errors.std()) / 10 / math.sqrt(2000)
        centre = float(errors.mean()) / 10
        self.assertAlmostEqual(centre - half, found[0], delta=half / 10)
        self.assertAlmostEqual(centre + half, found[1], delta=half / 10)

    def test_what_is_drawn_at_once_changes_nothing(self) -> None:
        errors = np.random.default_rng(1).integers(0, 4, (50, 2)).astype(float)
        expected = resampled_rates(errors, np.full((50, 2), 5.0), 30)
        for utterances in (1, 120):
            with mock.patch("hw_asr.report.statistics.DRAWN_AT_ONCE", utterances):
                np.testing.assert_array_equal(expected, resampled_rates(errors, np.full((50, 2), 5.0), 30))

    def test_a_handful_of_utterances_has_no_interval(self) -> None:
        self.assertEqual([None], interval(np.ones((4, 1)), np.ones((4, 1))))

    def test_matched_pairs_and_bootstrap_agree_with_the_normal_distribution(self) -> None:
        generator = np.random.default_rng(2)
        a = generator.binomial(10, 0.2, 1000).astype(float)
        b = np.maximum(0, a - generator.binomial(1, 0.06, 1000) + generator.binomial(1, 0.045, 1000))
        found = compare(a, b, np.full(1000, 10.0))
        differences = b - a
        z = float(differences.mean()) / (float(differences.std(ddof=1)) / math.sqrt(1000))
        self.assertAlmostEqual(2 * NormalDist().cdf(-abs(z)), found.matched_pairs_p, places=9)
        assert found.bootstrap_p is not None
        self.assertAlmostEqual(found.matched_pairs_p, found.bootstrap_p, delta=0.03)
        self.assertAlmostEqual(float(differences.sum()) / 10_000, found.difference)

    def test_equal_systems_do_not_differ(self) -> None:
        errors = np.arange(20.0)
        found = compare(errors, errors, np.full(20, 10.0))
        self.assertEqual((0.0, 1.0, 1.0), (found.difference, found.bootstrap_p, found.matched_pairs_p))


class ComparisonTest(unittest.TestCase):
    def setUp(self) -> None:
        self.first = [result(str(i), "a b c d", "a b c d" if i % 2 else "a x c d") for i in range(20)]
        self.second = [result(str(i), "a b c d", "a b c d") for i in range(20)]

    def test_pairs_by_path_in_any_order(self) -> None:
        data = comparison_data(self.first, self.second[::-1])
        found = data["comparison"]
        self.assertEqual((10, 0, 10), (found["better"], found["worse"], found["same"]))
        self.assertAlmostEqual(-10 / 80, found["differences"]["words"]["difference"])
        self.assertLess(found["differences"]["words"]["bootstrap_p"], 0.01)
        self.assertIn("WER -12.50 points", summary(data))

    def test_six_recordings_are_too_few(self) -> None:
        data = comparison_data(self.first[:6], self.second[:6])
        for difference in data["comparison"]["differences"].values():
            self.assertEqual([None] * 3, [difference[key] for key in ("interval", "bootstrap_p", "matched_pairs_p")])
        self.assertIn("too few recordings to tell: 6 with a reference, at least 20 needed", summary(data))
        self.assertNotIn("p =", summary(data))
        self.assertNotIn("too few", summary(comparison_data(self.first, self.second)))

    def test_what_cannot_be_paired_is_counted(self) -> None:
        second = [*self.second[1:], result("new", "a", "a")]
        second[0] = result("1", "another reference", "a")
        found = comparison_data(self.first, second)["comparison"]
        self.assertEqual([1, 1, 1], list(found["left_out"].values()))

    def test_pieces_of_a_recording_are_paired_by_their_place(self) -> None:
        pieces = [{**result("a", text, text), "offset": start} for start, text in ((0.0, "a"), (5.0, "b"), (9.0, "c"))]
        found = comparison_data(pieces, pieces[:0:-1])["comparison"]
        self.assertEqual((0, 0, 2), (found["better"], found["worse"], found["same"]))
        self.assertEqual([1, 0, 0], list(found["left_out"].values()))

    def test_faults_are_explained(self) -> None:
        with self.assertRaisesRegex(ReportError, "no recording in common"):
            comparison_data(self.first, [result("new", "a", "a")])
        for first, second, name in (([], self.second, "A"), (self.first, [], "B")):
            with self.assertRaisesRegex(ReportError, f"{name} is empty; nothing can be compared"):
                comparison_data(first, second)
        with self.assertRaisesRegex(ReportError, "B has no decoder 'beam_search'; it has argmax"):
            comparison_data([result("1", "a", "a", "a")], self.second, decoders=("argmax", "beam_search"))


if __name__ == "__main__":
    unittest.main()
