"""Language models: scores against independent scorers, the cache, the alphabet, broken files."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
import random
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from hw_asr.lm import arpa, language_model
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.lm.cache import MAGIC, cache_paths
from hw_asr.lm.estimation.pipeline import NgramOptions, build_language_model
from hw_asr.lm.language_model import LanguageModel
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.test_ngram_build import made_text

ALPHABET = "^abc "


def random_sentences(words: list[str], count: int, seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [draw.choices([*words, "unheard"], k=draw.randint(0, 9)) for _ in range(count)]


class ModelTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.path = self.directory / "model.arpa"
        environment = mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.directory / "user")})
        environment.start()
        self.addCleanup(environment.stop)

    def assert_conversions(self, expected: int) -> None:
        """Load twice and hold how often that converted the file."""
        with mock.patch.object(language_model, "convert", wraps=language_model.convert) as convert:
            LanguageModel.load(self.path, ALPHABET)
            LanguageModel.load(self.path, ALPHABET)
        self.assertEqual(convert.call_count, expected)


class ScoreTest(ModelTest):
    def test_orders_one_to_five(self) -> None:
        words = all_words("abc", 2)
        for order in range(1, 6):
            example = ArpaExample(words, order, order, unknown=order != 2)
            example.write(self.path)
            for _ in range(2):  # once from the ARPA, once from the cache
                model = LanguageModel.load(self.path, ALPHABET)
                self.assertEqual(model.order, order)
                for sentence in random_sentences(words, 60, order):
                    for bos, eos in ((True, True), (True, False), (False, True), (False, False)):
                        expected = example.score(sentence, bos, eos)
                        self.assertAlmostEqual(model.score(sentence, bos, eos), expected, delta=1e-4)

    def test_contexts_that_lower_orders_lack(self) -> None:
        example = ArpaExample(["a", "b", "c"], 4, 1)
        for ngram in [each for each in example.log_probs if len(each) == 2 and each[0] != "<s>"]:
            if not any(other[:2] == ngram for other in example.log_probs if len(other) > 2):
                del example.log_probs[ngram]
        example.write(self.path)
        model = LanguageModel.load(self.path, ALPHABET)
        for sentence in random_sentences(["a", "b", "c"], 100, 0):
            self.assertAlmostEqual(model.score(sentence), example.score(sentence), delta=1e-4)

    @unittest.skipUnless(importlib.util.find_spec("kenlm"), "kenlm is not installed")
    def test_kenlm_gives_the_same_scores(self) -> None:
        import kenlm

        letters = "^abcdefgh "
        build_language_model(made_text(2000, 300), self.path, letters, NgramOptions(3))
        model, peer = LanguageModel.load(self.path, letters), kenlm.Model(str(self.path))
        for sentence in random_sentences(sorted(model.words), 1000, 0):
            expected = peer.score(" ".join(sentence)) * math.log(10)
            self.assertAlmostEqual(model.score(sentence), expected, delta=1e-4 * max(1, abs(expected)))

    def test_numbers_in_any_form(self) -> None:
        self.path.write_bytes(
            b"made by hand\r\n\r\n\\data\\\r\nngram 1=5\r\n\r\n\\1-grams:\r\n"
            b"-99 <s>\r\n-1.5E0\t</s>\r\n-.5 <unk>\r\n-25e-2\ta\r\n+0 b\r\n\r\n\\end\\\r\n"
        )
        model = LanguageModel.load(self.path, ALPHABET)
        for sentence, expected in ((["a"], -0.25), (["b"], 0.0), (["c"], -0.5)):
            self.assertAlmostEqual(model.score(sentence), (expected - 1.5) * math.log(10), places=5)

    def test_minus_infinity(self) -> None:
        example = ArpaExample(["a", "b"], 2, 0)
        example.write(self.path)
        expected = LanguageModel.load(self.path, ALPHABET).score(["a", "b"])
        log_prob = f"{example.log_probs[('<s>',)]:.5f}".rstrip("0")
        for value in ("-inf", "-Inf", "-INF", "-1e400"):
            self.path.write_text(example.text().replace(f"{log_prob}\t<s>", f"{value}\t<s>"), encoding="utf-8")
            self.assertIn(value, self.path.read_text(encoding="utf-8"))
            self.assertAlmostEqual(LanguageModel.load(self.path, ALPHABET).score(["a", "b"]), expected, places=5)


class CacheTest(ModelTest):
    def setUp(self) -> None:
        super().setUp()
        self.example = ArpaExample(["a", "b", "ab"], 3, 0)
        self.example.write(self.path)

    def test_converted_once(self) -> None:
        self.assert_conversions(1)
        self.assert_conversions(0)

    def test_a_changed_file_is_converted_again(self) -> None:
        self.assert_conversions(1)
        ArpaExample(["a", "b", "ab"], 3, 1).write(self.path)
        os.utime(self.path, ns=(1, 1))
        self.assert_conversions(1)

    def test_what_a_killed_process_left_is_not_read(self) -> None:
        self.assert_conversions(1)
        cache = cache_paths(self.path, ALPHABET)[0]
        whole = cache.read_bytes()
        for content in (b"", whole[:10], whole[: len(whole) // 2], b"x" * len(whole)):
            cache.write_bytes(content)
            self.assert_conversions(1)
        self.assertEqual(cache.read_bytes()[:64], whole[:64])

    def test_forged_arrays_are_not_used(self) -> None:
        self.assert_conversions(1)
        cache = cache_paths(self.path, ALPHABET)[0]
        whole = cache.read_bytes()
        (room,) = struct.unpack_from("<I", whole, len(MAGIC))
        layout = json.loads(whole[len(MAGIC) + 4 :][:room])["arrays"]
        forgeries = {
            "log_probs": (math.nan, 1.0), "backoffs": (math.inf,), "shorter": (-2, 10**9, 3),
            "next_states": (-2, 10**9),
            "values": (0, -2, 10**9), "trie_first": (0, 1, 10**6), "trie_classes": (-1, 5), "trie_words": (-2, 10**9),
            "special": (-1, 10**9), "words": (255,),
        }  # fmt: skip
        for name, values in forgeries.items():
            dtype, (size,), offset = layout[name]
            for value in values:
                data = bytearray(whole)
                np.frombuffer(data, dtype, size, offset)[:] = value
                cache.write_bytes(data)
                with self.subTest(name=name, value=value):
                    self.assert_conversions(1)
        for old, new in (('"<i4"', '"<f4"'), ("[", "{"), ('"size": ', '"size": 1'), ('"order": 3', '"order": 0')):
            cache.write_bytes(whole.replace(old.encode(), new.encode(), 1))
            self.assert_conversions(1)
        self.assertEqual(cache.read_bytes(), whole)

    def test_where_others_can_write_there_is_no_cache(self) -> None:
        self.directory.chmod(0o777)
        user = Path(os.environ["XDG_CACHE_HOME"])
        self.assertEqual([path.is_relative_to(user) for path in cache_paths(self.path, ALPHABET)], [True])
        (user / "hw_asr").chmod(0o770)
        self.assertEqual(cache_paths(self.path, ALPHABET), [])
        with self.assertLogs("hw_asr.lm.cache", "WARNING"):
            LanguageModel.load(self.path, ALPHABET)

    def test_a_link_has_its_cache_where_only_the_user_can_write(self) -> None:
        shared = self.directory / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        (shared / "model.arpa").symlink_to(self.path)
        user = Path(os.environ["XDG_CACHE_HOME"])
        self.assertEqual([p.is_relative_to(user) for p in cache_paths(shared / "model.arpa", ALPHABET)], [True])

    def test_another_alphabet_has_a_cache_of_its_own(self) -> None:
        self.assert_conversions(1)
        self.assertEqual(LanguageModel.load(self.path, "^a ").overlap.num_spellable, 1)
        self.assert_conversions(0)

    def test_a_directory_that_cannot_be_written(self) -> None:
        beside = cache_paths(self.path, ALPHABET)[0]
        beside.mkdir()  # renaming a file onto a directory fails, for root too
        self.assert_conversions(1)
        self.assertTrue(cache_paths(self.path, ALPHABET)[1].is_file())
        self.assert_conversions(0)


class AlphabetTest(ModelTest):
    def test_overlap_is_told(self) -> None:
        ArpaExample(["a", "b", "zz", "yy"], 2, 0).write(self.path)
        with self.assertLogs("hw_asr.lm.language_model", "INFO") as logs:
            overlap = LanguageModel.load(self.path, ALPHABET).overlap
        self.assertEqual((overlap.num_words, overlap.num_spellable), (4, 2))
        self.assertIn("2 of 4 words", logs.output[0])

    def test_a_model_that_never_matches_is_an_error_with_a_remedy(self) -> None:
        ArpaExample(["A", "B"], 2, 0).write(self.path)
        with self.assertRaisesRegex(LanguageModelError, "other case: convert the file to lower case"):
            LanguageModel.load(self.path, ALPHABET)
        ArpaExample(["я", "ты"], 2, 0).write(self.path)
        with self.assertRaisesRegex(LanguageModelError, "cannot spell any of its 2 words .*; train or fetch"):
            LanguageModel.load(self.path, ALPHABET)
        ArpaExample(["ab" * 40], 1, 0, unknown=False).write(self.path)
        with self.assertRaisesRegex(LanguageModelError, "any of its 1 words in up to 64 characters"):
            LanguageModel.load(self.path, ALPHABET)


class BrokenFileTest(ModelTest):
    def assert_error(self, reason: str) -> None:
        with self.assertRaisesRegex(LanguageModelError, reason) as caught:
            LanguageModel.load(self.path, ALPHABET)
        self.assertIn(str(self.path), str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_missing(self) -> None:
        self.assert_error("no such language model")

    def test_no_model_at_all(self) -> None:
        for content, reason in ((b"", "empty"), (b"\x7fELF nonsense", "neither ARPA .* it begins with")):
            self.path.write_bytes(content)
            self.assert_error(reason)

    def test_broken_gzip(self) -> None:
        packed = gzip.compress(ArpaExample(all_words("abc", 3), 3, 0).text().encode())
        self.path.write_bytes(packed)
        self.assertEqual(LanguageModel.load(self.path, ALPHABET).order, 3)
        self.path.write_bytes(packed[: len(packed) // 2])
        self.assert_error("truncated or damaged")

    def test_cut_off(self) -> None:
        text = ArpaExample(["a", "b", "ab"], 3, 0).text()
        for position in range(30, len(text) - 6, 7):
            self.path.write_text(text[:position], encoding="utf-8")
            self.assert_error(r"line \d+|missing|header|\\end")

    def test_contradictions(self) -> None:
        text = ArpaExample(["a", "b", "ab"], 3, 0).text()
        changes = {
            ("ngram 2=12", "ngram 2=13"): r"line \d+: the header counts 13 2-grams, there are 12;",
            ("ngram 2=12", "ngram 2=9999"): "more than 898 bytes can hold",
            ("ngram 1=6", "ngram 1=5"): "the header counts 5 1-grams, there are more",
            ("ngram 2=12", "ngram 2=-12"): "cannot read the header line 'ngram 2=-12'",
            ("ngram 2=", "ngram 4="): "counts 4-grams after 1-grams",
            ("\\2-grams:", "\\3-grams:"): r"expected \\2-grams:",
            ("\tab\t", "\ta\t"): "duplicate 1-gram 'a'",
            ("\n-1", "\n-x1"): "expected a number, got '-x1",
            ("\\end\\", ""): "is missing after the last section",
        }
        for (old, new), reason in changes.items():
            with self.subTest(old=old, new=new):
                self.assertIn(old, text)
                self.path.write_text(text.replace(old, new, 1), encoding="utf-8")
                self.assert_error(reason)

    def test_positive_probabilities(self) -> None:
        text = ArpaExample(["a", "b", "ab"], 3, 0).text()
        self.path.write_text(text.replace("\n-", "\n", 1), encoding="utf-8")
        self.assert_error(r"line \d+: positive log-probability \d")

    def test_other_encodings(self) -> None:
        text = ArpaExample(["a", "b", "caf\u00e9"], 2, 0).text()
        self.path.write_bytes(text.encode("latin-1"))
        self.assert_error(r"line \d+: b'caf\\xe9' is not UTF-8; convert the file")
        self.path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        self.assertIn("caf\u00e9", LanguageModel.load(self.path, ALPHABET).words)

    def test_sizes_beyond_reason(self) -> None:
        self.path.write_bytes(b"\\data\\\nngram 1=999999999999\n\n\\1-grams:\n-1 a\n\\end\\\n")
        self.assert_error("counts 999999999999 n-grams, more than 50 bytes can hold")
        self.path.write_bytes(b"\\data\\\n" + b"".join(b"ngram %d=1\n" % order for order in range(1, 40)))
        self.assert_error("counts 39-grams; at most 16 are supported")
        with mock.patch.object(arpa, "SMALL_UNPACKED", 1 << 10):
            self.path.write_bytes(gzip.compress(bytes(1 << 22)))
            self.assert_error("unpacks to more than")

    def test_words_and_contexts_that_are_not_there(self) -> None:
        example = ArpaExample(["a", "b"], 3, 0)
        example.log_probs[("a", "ghost")] = -1.0
        example.write(self.path)
        self.assert_error("'ghost' is not among the 1-grams")
        example = ArpaExample(["a", "b", "c", "ab"], 3, 0)
        lost = next(ngram[:2] for ngram in example.log_probs if len(ngram) == 3)
        del example.log_probs[lost]
        example.write(self.path)
        self.assert_error("but not its context")
        example = ArpaExample(["a"], 1, 0)
        del example.log_probs[("</s>",)]
        example.write(self.path)
        self.assert_error("not both among the 1-grams")


if __name__ == "__main__":
    unittest.main()
