"""Long recordings in segments: where they are cut, and that joining them adds up."""

from __future__ import annotations

import itertools
import math
import random
import unittest

import numpy as np
from numpy.typing import NDArray

from hw_asr.recognition.results import Alternative
from hw_asr.recognition.segments import LONGEST_SECONDS, SHORTEST_SECONDS, cut_at_pauses, join_alternatives, join_texts

FRAME = 0.05
SPACE = 1


def path_to_log_probs(path: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-probabilities of four classes that are nearly certain of a path."""
    probabilities = np.full((len(path), 4), 0.01)
    probabilities[np.arange(len(path)), path] = 0.97
    return np.log(probabilities).astype(np.float32)


def speech(seconds: float, seed: int = 0) -> NDArray[np.int64]:
    """A path of letters and blanks without pauses."""
    generator = np.random.default_rng(seed)
    path = generator.integers(2, 4, round(seconds / FRAME))
    path[::3] = 0
    return path


class CutTest(unittest.TestCase):
    def test_pieces_are_bounded_and_leave_nothing_out(self) -> None:
        for seconds in (0.05, 9, 29.9, 30.1, 61, 400):
            for size in (7, 100, 100_000):
                log_probs = path_to_log_probs(speech(seconds))
                blocks = [log_probs[start : start + size] for start in range(0, len(log_probs), size)]
                pieces = list(cut_at_pauses(iter(blocks), FRAME, SPACE))
                np.testing.assert_array_equal(np.concatenate([piece.log_probs for piece in pieces]), log_probs)
                frames = [len(piece.log_probs) for piece in pieces]
                self.assertEqual([piece.start for piece in pieces], [0, *np.cumsum(frames)[:-1].tolist()])
                lengths = [number * FRAME for number in frames]
                self.assertLessEqual(max(lengths), LONGEST_SECONDS + FRAME)
                self.assertTrue(all(length >= SHORTEST_SECONDS - FRAME for length in lengths[:-1]))
        self.assertEqual(list(cut_at_pauses([], FRAME, SPACE)), [])

    def cut(self, path: NDArray[np.int64], space: int | None = SPACE) -> float:
        return next(itertools.islice(cut_at_pauses([path_to_log_probs(path)], FRAME, space), 1, 2)).start * FRAME

    def test_the_cut_is_in_the_longest_pause_within_the_limits(self) -> None:
        path = speech(50)
        for start, seconds in ((5, 3), (12, 0.4), (20, 0.8), (26, 0.5), (35, 3)):
            path[round(start / FRAME) : round((start + seconds) / FRAME)] = 0
        self.assertAlmostEqual(self.cut(path), 20.4, delta=FRAME)

    def test_a_pause_beside_a_space_is_better_than_one_inside_a_word(self) -> None:
        path = speech(50)
        for start, seconds in ((15, 0.5), (25, 0.3)):
            path[round(start / FRAME) : round((start + seconds) / FRAME)] = 0
        self.assertAlmostEqual(self.cut(path), 15.25, delta=FRAME)
        path[round(25 / FRAME) - 1] = SPACE
        self.assertAlmostEqual(self.cut(path), 25.15, delta=FRAME)
        self.assertAlmostEqual(self.cut(path, space=None), 15.25, delta=FRAME)


class JoinTest(unittest.TestCase):
    def test_the_best_combinations_of_all(self) -> None:
        draw = random.Random(3)
        for trial in range(50):
            lists = [
                sorted(
                    (
                        Alternative(f"{place}{number}", -draw.random(), -9 * draw.random())
                        for number in range(draw.randint(0, 4))
                    ),
                    key=lambda alternative: -alternative.score,
                )
                for place in "abcd"[: 1 + trial % 4]
            ]
            full = [alternatives for alternatives in lists if alternatives]
            every = [
                Alternative(
                    " ".join(each.text for each in combination),
                    math.fsum(each.log_prob for each in combination),
                    math.fsum(each.score for each in combination),
                )
                for combination in itertools.product(*full)
            ]
            expected = sorted(every, key=lambda alternative: -alternative.score) if full else []
            found = join_alternatives(lists, has_spaces=True)
            self.assertEqual(len(found), min(len(expected), max(map(len, lists))))
            for one, other in zip(found, expected, strict=False):
                self.assertEqual(one.text, other.text)
                self.assertAlmostEqual(one.log_prob, other.log_prob)
                self.assertAlmostEqual(one.score, other.score)

    def test_texts(self) -> None:
        self.assertEqual(join_texts(["one two ", "", " three"], has_spaces=True), "one two three")
        self.assertEqual(join_texts(["一二", "", "三"], has_spaces=False), "一二三")

    def test_texts_that_differ_in_outer_spaces_only_are_one(self) -> None:
        lists = [[Alternative("a", -1.0, -1.0), Alternative("a ", -2.0, -2.0)], [Alternative("b", 0.0, 0.0)]]
        self.assertEqual(join_alternatives(lists, has_spaces=True), (Alternative("a b", -1.0, -1.0),))


if __name__ == "__main__":
    unittest.main()
