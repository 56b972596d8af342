"""Language model estimation, against its definition, KenLM's lmplz and the laws of probability."""

from __future__ import annotations

import itertools
import random
import string
import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw_asr.lm.estimation.counts import NgramError
from hw_asr.lm.estimation.pipeline import NgramOptions, OrderStatistics, build_language_model
from hw_asr.lm.estimation.sorting import bucket_bounds, group_starts, suffix_order
from hw_asr.tests.ngram_oracle import Arpa, SlowKneserNey

LETTERS = string.ascii_lowercase + " '"
BROWN = Path(__file__).resolve().parents[2].parent / "shared/data/language_model/brown_sentences.txt"


def made_text(num_sentences: int, num_words: int = 12, seed: int = 0) -> list[str]:
    """Return sentences of words w whose frequencies fall off and which like to follow each other in order."""
    draw = random.Random(seed)
    words = ["".join(letters) for letters in itertools.islice(itertools.product("abcdefgh", repeat=3), num_words)]
    sentences = []
    for _ in range(num_sentences):
        sentence, last = [], 0
        for _ in range(draw.randint(1, 7)):
            last = (last + 1) % num_words if draw.random() < 0.2 else int(num_words * draw.random() ** 6)
            sentence.append(words[last])
        sentences.append(" ".join(sentence))
    return sentences


class BuildTestCase(unittest.TestCase):
    """Tests that build into a directory of their own."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def build(
        self, lines: Sequence[str], options: NgramOptions, name: str = "lm.arpa"
    ) -> tuple[Arpa, list[OrderStatistics]]:
        path = self.directory / name
        statistics = build_language_model(lines, path, LETTERS, options)
        self.assertEqual([path.name], [each.name for each in self.directory.glob(f"*{name}*")])
        return Arpa(path), statistics


class TestAgainstTheDefinition(BuildTestCase):
    def assert_equals_definition(self, text: list[str], options: NgramOptions) -> None:
        arpa, _ = self.build(text, options)
        slow = SlowKneserNey(text, options.order, options.thresholds, options.discount_fallback)
        words = slow.vocabulary
        draw = random.Random(1)
        contexts = [()]
        for length in range(1, options.order):
            contexts += [tuple(draw.choices(words, k=length)) for _ in range(25)]
            contexts += [("<s>", *draw.choices(words, k=length - 1)) for _ in range(10)]
        for context in contexts:
            expected = np.array([slow.probability(context, word) for word in words])
            found = np.array([10 ** arpa.log10(context, word) for word in words])
            np.testing.assert_allclose(found, expected, rtol=3e-6, err_msg=str(context))
            self.assertAlmostEqual(1.0, found.sum(), places=5, msg=str(context))

    def test_all_orders_without_pruning(self) -> None:
        text = made_text(250, 20)
        for order in range(1, 6):
            with self.subTest(order=order):
                self.assert_equals_definition(text, NgramOptions(order, discount_fallback=(0.5, 1.0, 1.5)))

    def test_pruned(self) -> None:
        text = made_text(250, 20)
        for prune in ((0, 1), (0, 0, 2), (0, 1, 1, 3)):
            with self.subTest(prune=prune):
                self.assert_equals_definition(
                    text, NgramOptions(max(3, len(prune)), prune, discount_fallback=(0.5, 1.0, 1.5))
                )

    def test_one_word_and_one_sentence(self) -> None:
        for text in (["a"], ["a a a a"], ["a b"] * 50):
            with self.subTest(text=text[0]):
                self.assert_equals_definition(text, NgramOptions(3, discount_fallback=(0.5, 1.0, 1.5)))

    def test_kept_ngrams_are_those_above_the_threshold(self) -> None:
        text = made_text(250, 20)
        arpa, statistics = self.build(text, NgramOptions(3, (0, 1, 2), (0.5, 1.0, 1.5)))
        slow = SlowKneserNey(text, 3, (0, 1, 2), (0.5, 1.0, 1.5))
        self.assertEqual(slow.kept | {("<unk>",), ("<s>",)}, set(arpa.probs))
        self.assertEqual(arpa.declared, [each.num_kept for each in statistics])
        self.assertEqual(arpa.declared, [sum(len(ngram) == n for ngram in arpa.probs) for n in (1, 2, 3)])


class TestAgainstLmplz(BuildTestCase):
    """Reference values of KenLM (PyPI's kenlm 0.3.0 sources, `cmake` and `make lmplz query`)."""

    def test_made_text(self) -> None:
        """`made_text(2000, 500) and zzz | lmplz -o 3 > m.arpa`, then `made_text(500, 512, seed=1) | query m.arpa`.

        lmplz takes the occurrences of the very last n-gram for its adjusted count; they are equal for zzz.
        """
        arpa, statistics = self.build([*made_text(2000, 500), "zzz"], NgramOptions(3))
        self.assertEqual([489, 3440, 5360], arpa.declared)
        discounts = [(0.172414, 1.47044, 2.38252), (0.732477, 1.03563, 1.38199), (0.867055, 1.28023, 1.28306)]
        np.testing.assert_allclose([each.discounts for each in statistics], discounts, rtol=1e-5)
        self.assertAlmostEqual(42.531127, arpa.perplexity(made_text(500, 512, seed=1)), delta=1e-4)

    @unittest.skipUnless(BROWN.is_file(), "needs ../shared/data/language_model")
    def test_brown(self) -> None:
        """`lmplz -o 3 < brown_sentences.txt > b.arpa`, then `head -2000 gutenberg_sentences.txt | query b.arpa`."""
        with BROWN.open(encoding="utf-8") as file:
            arpa, statistics = self.build(list(file), NgramOptions(3))
        self.assertEqual([40490, 385543, 715053], arpa.declared)
        discounts = [(0.573809, 1.0724, 1.48952), (0.785527, 1.10952, 1.43926), (0.892096, 1.22946, 1.45159)]
        np.testing.assert_allclose([each.discounts for each in statistics], discounts, rtol=1e-5)
        with BROWN.with_name("gutenberg_sentences.txt").open(encoding="utf-8") as file:
            held_out = [line.strip() for line in itertools.islice(file, 2000)]
        self.assertAlmostEqual(378.09466, arpa.perplexity(held_out), delta=0.001)


class TestStreaming(BuildTestCase):
    def test_little_memory_gives_the_same_model(self) -> None:
        text = made_text(3000, 64)
        self.build(text, NgramOptions(4, (0, 0, 1), (0.5, 1.0, 1.5)), "one.arpa")
        many = _InSmallPieces(4, (0, 0, 1), (0.5, 1.0, 1.5))
        self.build(text, many, "many.arpa")
        self.assertEqual((self.directory / "one.arpa").read_bytes(), (self.directory / "many.arpa").read_bytes())

    def test_compressed(self) -> None:
        text = made_text(300)
        options = NgramOptions(2, discount_fallback=(0.5, 1.0, 1.5))
        plain, _ = self.build(text, options)
        packed, _ = self.build(text, options, "packed.arpa.gz")
        self.assertEqual(plain.probs, packed.probs)
        self.assertEqual(b"\x1f\x8b", (self.directory / "packed.arpa.gz").read_bytes()[:2])

    def test_text_is_normalised_and_empty_lines_are_left_out(self) -> None:
        options = NgramOptions(2, discount_fallback=(0.5, 1.0, 1.5))
        clean, _ = self.build(["well known don't", "cafe"], options, "clean.arpa")
        raw, _ = self.build(["  Well-known,  DON’T!\n", "\n", " ... \n", "Café\n"], options, "raw.arpa")
        self.assertEqual(clean.probs, raw.probs)

    def test_a_failure_leaves_nothing_behind(self) -> None:
        with self.assertRaises(NgramError):
            build_language_model(["a b c"], self.directory / "lm.arpa", LETTERS)
        self.assertEqual([], list(self.directory.iterdir()))


class TestMessages(BuildTestCase):
    def test_too_little_text_names_the_remedy(self) -> None:
        with self.assertRaisesRegex(NgramError, "no 1-gram has adjusted count [123].*--discount-fallback"):
            self.build(["a b", "a c"], NgramOptions(2))

    def test_no_words(self) -> None:
        with self.assertRaisesRegex(NgramError, "no words over the alphabet"):
            self.build(["привет", ""], NgramOptions(2))

    def test_reserved_words(self) -> None:
        with self.assertRaisesRegex(NgramError, "'<s>'.*reserve"):
            build_language_model(["a <s> b"], self.directory / "lm.arpa", LETTERS + "<>/")

    def test_options(self) -> None:
        for values, message in (
            ({"order": 0}, "^order: expected 1 to 6, got 0"),
            ({"order": 7}, "^order"),
            ({"prune": (1,)}, "^prune: the first value must be 0"),
            ({"prune": (0, 2, 1)}, "^prune: expected values that do not decrease"),
            ({"prune": (0, 0, 0, 1)}, "^prune: expected 1 to 3"),
            ({"discount_fallback": (2.0, 1.0, 1.5)}, "^discount_fallback"),
            ({"memory_mb": 0}, "^memory_mb"),
        ):
            with self.subTest(values), self.assertRaisesRegex(ValueError, message):
                NgramOptions(**values)


class _InSmallPieces(NgramOptions):
    """Options under which a small text takes many buckets."""

    @property
    def rows_in_memory(self) -> int:
        return 100


class TestSorting(unittest.TestCase):
    def test_suffix_order_is_that_of_reversed_rows(self) -> None:
        generator = np.random.default_rng(0)
        for num_types, width in ((2, 5), (1000, 3), (1 << 21, 3), (1 << 21, 5), ((1 << 32) - 1, 4)):
            words = generator.integers(0, num_types, (300, width), dtype=np.uint64).astype(np.uint32)
            words[::3] = words[0]
            rows = words[suffix_order(words, num_types)].tolist()
            self.assertEqual(sorted(words.tolist(), key=lambda row: row[::-1]), rows)

    def test_groups(self) -> None:
        rows = np.array([[1, 2], [1, 2], [1, 3], [0, 3]], dtype=np.uint32)
        self.assertEqual([0, 2, 3], group_starts(rows).tolist())
        self.assertEqual([], group_starts(rows[:0]).tolist())

    def test_buckets_cover_all_words_within_the_limit(self) -> None:
        weights = np.random.default_rng(0).integers(1, 50, 200)
        weights[70] = 1000
        bounds = bucket_bounds(weights, 100)
        self.assertEqual((0, 200), (bounds[0], bounds[-1]))
        for start, end in itertools.pairwise(bounds):
            self.assertTrue(weights[start:end].sum() <= 100 or end == start + 1)


if __name__ == "__main__":
    unittest.main()
