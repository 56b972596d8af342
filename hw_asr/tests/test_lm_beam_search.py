"""Fused search and hotwords against enumeration with an independent scorer."""

from __future__ import annotations

import math
import tempfile
import tracemalloc
import unittest
from pathlib import Path
from unittest import mock

import torch

from hw_asr.decoders.beam_search import BeamSearchDecoder
from hw_asr.decoders.fusion_tables import hotword_table
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.test_beam_search import enumerate_texts, random_log_probs, without_outer_spaces
from hw_asr.text.encoder import CTCCharTextEncoder

ALPHABET = "ab "


def occurrences(phrase: str, text: str) -> int:
    """Count how often the words of a phrase follow each other in a text, overlaps included."""
    padded = f" {text} "
    return sum(padded.startswith(f" {phrase} ", place) for place in range(len(padded)))


class FusionTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.encoder = CTCCharTextEncoder(ALPHABET)

    def decoder(self, model: ArpaExample, **arguments: object) -> LanguageModelBeamSearchDecoder:
        path = model.write(self.directory / f"{model.order}-{len(model.log_probs)}.arpa")
        common = {"beam_size": 4000, "n_best": 4000, "symbol_floor": None, "beam_threshold": None}
        return LanguageModelBeamSearchDecoder(self.encoder, path, **{**common, **arguments})

    def test_scores_are_those_of_the_formula(self) -> None:
        hotwords = {"ab": 1.5, "a b": -0.7, "b a": 2.0, "ab a": 1.0}
        spared = {word for phrase in hotwords for word in phrase.split()}
        for case in range(8):
            alpha, beta, offset = 0.3 + 0.2 * case, 1.5 - 0.5 * case, -2.0 * (case % 3)
            words = [word for word in all_words("ab", 3) if hash_free(word, case)]
            model = ArpaExample(words, 1 + case % 4, case)
            boosts = hotwords if case % 2 else {}
            decoder = self.decoder(
                model, alpha=alpha, beta=beta, unknown_word_offset=offset, hotwords=dict(boosts) or None
            )
            log_probs = random_log_probs((5, 4), case)
            found = decoder(log_probs[None], torch.tensor([5]))[0]
            expected = {}
            for text, probability in without_outer_spaces(enumerate_texts(log_probs.numpy(), "^" + ALPHABET)).items():
                unknown = [word for word in text.split() if word not in words and not (boosts and word in spared)]
                score = math.log(probability) + alpha * model.score(text.split()) + beta * len(text.split())
                score += offset * len(unknown)
                score += sum(boost * occurrences(phrase, text) for phrase, boost in boosts.items())
                expected[text] = score
            self.assertEqual({each.text for each in found}, set(expected))
            for each in found:
                self.assertAlmostEqual(each.score, expected[each.text], delta=2e-4)
            self.assertEqual(found, sorted(found, key=lambda each: -each.score))

    def test_a_narrow_beam_ranks_by_the_same_scores(self) -> None:
        model = ArpaExample(all_words("ab", 3), 3, 5)
        same = 0
        for seed in range(20):
            log_probs, lengths = random_log_probs((1, 30, 4), seed, 4.0), torch.tensor([30])
            wide = self.decoder(model, beam_size=2000)(log_probs, lengths)[0]
            scores = {each.text: each.score for each in wide}
            narrow = self.decoder(model, beam_size=500, n_best=1, symbol_floor=-8.0, beam_threshold=12.0)
            best = narrow(log_probs, lengths)[0][0]
            self.assertLessEqual(best.score, wide[0].score + 1e-9)
            self.assertAlmostEqual(best.score, scores.get(best.text, best.score), delta=1e-9)
            same += best.text == wide[0].text
        self.assertGreaterEqual(same, 18)

    def test_hotwords_that_are_not_spoken_hardly_matter(self) -> None:
        self.encoder = CTCCharTextEncoder("abc ")
        model = ArpaExample(["a", "b", "ab", "ba"], 2, 0)
        log_probs, lengths = random_log_probs((40, 30, 5), 1, 4.0), torch.full((40,), 30)
        log_probs[..., 3] -= 20.0  # nothing contains a "c"
        for offset in (-50.0, -1000.0):
            options = {"unknown_word_offset": offset, "beam_size": 20, "n_best": 1, "beam_threshold": 10.0}
            plain = self.decoder(model, **options)
            boosted = self.decoder(model, **options, hotwords=["accccc"], hotword_weight=0.0)
            pairs = zip(boosted(log_probs, lengths), plain(log_probs, lengths), strict=True)
            self.assertGreaterEqual(sum(one[0].text == other[0].text for one, other in pairs), 38)

    def test_hotwords_of_a_model_without_unknown_words(self) -> None:
        model = ArpaExample(["a", "b"], 1, 0, unknown=False)
        worst = min(model.log_probs["a",], model.log_probs["b",]) * math.log(10)
        decoder = self.decoder(model, alpha=0.5, beta=0.0, unknown_word_offset=-1000.0, hotwords=["ab"])
        log_probs = torch.tensor([[0.0, 9, 0, 0], [0.0, 0, 9, 0]]).log_softmax(1)
        best = decoder(log_probs[None], torch.tensor([2]))[0][0]
        self.assertEqual("ab", best.text)
        expected = best.log_prob + 0.5 * (worst + model.log_probs["</s>",] * math.log(10)) + 10
        self.assertAlmostEqual(expected, best.score, delta=1e-4)

    def test_language_model_chooses_between_words_that_sound_alike(self) -> None:
        path = self.directory / "two.arpa"
        path.write_text(
            "\\data\\\nngram 1=5\nngram 2=2\n\n\\1-grams:\n-99\t<s>\t0\n-1\t</s>\n-5\t<unk>\n-1\tab\t0\n-1\taa\t0\n\n"
            "\\2-grams:\n-0.1\tab aa\n-4\tab ab\n\n\\end\\\n"
        )
        log_probs = torch.full((1, 11, 4), -20.0)
        for frame, symbol in enumerate([1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 0]):
            log_probs[0, frame, symbol] = 0.0
        log_probs[0, 8, 1] = -0.8
        log_probs = log_probs.log_softmax(-1)
        lengths = torch.tensor([11])
        self.assertEqual(BeamSearchDecoder(self.encoder)(log_probs, lengths)[0][0].text, "ab ab")
        fused = LanguageModelBeamSearchDecoder(self.encoder, path, alpha=1.0, beta=0.0)
        self.assertEqual(fused(log_probs, lengths)[0][0].text, "ab aa")

    def test_arguments(self) -> None:
        model = ArpaExample(["a", "b"], 2, 0)
        for name in ("alpha", "beta", "unknown_word_offset"):
            with self.assertRaisesRegex(ValueError, f"^{name}: expected a number .* got nan"):
                self.decoder(model, **{name: math.nan})
        with self.assertRaisesRegex(LanguageModelError, "no space"):
            LanguageModelBeamSearchDecoder(CTCCharTextEncoder("ab"), model.write(self.directory / "m.arpa"))
        syllables = mock.Mock(alphabet=("<blank>", "ka", "a", " "))
        with self.assertRaisesRegex(LanguageModelError, "one character each, the alphabet has 'ka'"):
            LanguageModelBeamSearchDecoder(syllables, model.write(self.directory / "m.arpa"))


class HotwordTest(unittest.TestCase):
    def test_scores_count_occurrences(self) -> None:
        encoder = CTCCharTextEncoder(ALPHABET)
        hotwords = {"a": 0.9, "aa": 2.0, "a b": 3.0, "b a": 1.1, "a b a": -1.0}
        decoder = BeamSearchDecoder(
            encoder, beam_size=4000, n_best=4000, symbol_floor=None, beam_threshold=None, hotwords=hotwords
        )
        log_probs = random_log_probs((6, 4), 1)
        found = decoder(log_probs[None], torch.tensor([6]))[0]
        expected = without_outer_spaces(enumerate_texts(log_probs.numpy(), "^" + ALPHABET))
        self.assertEqual(sorted(hypothesis.text for hypothesis in found), sorted(expected))
        for each in found:
            expected = sum(boost * occurrences(phrase, each.text) for phrase, boost in hotwords.items())
            self.assertAlmostEqual(each.score - each.log_prob, expected, delta=1e-9)

    def test_without_a_space_they_match_anywhere(self) -> None:
        hotwords = {"a": 0.9, "ab": 2.0, "bab": -1.0}
        decoder = BeamSearchDecoder(
            CTCCharTextEncoder("ab"), beam_size=4000, n_best=4000, symbol_floor=None, beam_threshold=None,
            hotwords=hotwords,
        )  # fmt: skip
        for each in decoder(random_log_probs((1, 7, 3), 1), torch.tensor([7]))[0]:
            expected = sum(
                boost * sum(each.text.startswith(phrase, place) for place in range(7))
                for phrase, boost in hotwords.items()
            )
            self.assertAlmostEqual(each.score - each.log_prob, expected, delta=1e-9)

    def test_the_largest_boosts_have_exact_scores(self) -> None:
        hotwords = {"ab": 200.0, "a b a": -200.0}
        decoder = BeamSearchDecoder(
            CTCCharTextEncoder(ALPHABET), beam_size=4000, symbol_floor=None, beam_threshold=None, hotwords=hotwords
        )
        for each in decoder(random_log_probs((1, 6, 4), 1), torch.tensor([6]))[0]:
            expected = sum(boost * occurrences(phrase, each.text) for phrase, boost in hotwords.items())
            self.assertAlmostEqual(each.score - each.log_prob, expected, delta=1e-9)
        for boost in (201.0, -201.0, math.inf):
            with self.assertRaisesRegex(ValueError, "expected a boost between -200 and 200 for 'a b', got"):
                BeamSearchDecoder(CTCCharTextEncoder(ALPHABET), hotwords={"a b": boost})

    def test_large_alphabets_take_no_more_than_their_table(self) -> None:
        symbols = [chr(0x4E00 + index) for index in range(1000)]
        phrases = ["".join(symbols[(97 * index + 31 * place) % 1000] for place in range(6)) for index in range(200)]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        table = hotword_table(["^", *symbols], dict.fromkeys(phrases, 1.0))
        self.assertLess(tracemalloc.get_traced_memory()[1], 30 * table.gains.size)

    def test_a_listed_word_wins_over_a_likelier_one(self) -> None:
        log_probs = torch.tensor([[[0.01, 0.98, 0.005, 0.005], [0.01, 0.585, 0.4, 0.005], [0.98, 0.01, 0.005, 0.005]]])
        lengths = torch.tensor([3])
        encoder = CTCCharTextEncoder(ALPHABET)
        self.assertEqual(BeamSearchDecoder(encoder)(log_probs.log(), lengths)[0][0].text, "a")
        self.assertEqual(BeamSearchDecoder(encoder, hotwords=["AB"])(log_probs.log(), lengths)[0][0].text, "ab")


def hash_free(word: str, case: int) -> bool:
    """Leave some words out, the same ones in every run."""
    return (sum(map(ord, word)) * 7 + case) % 4 != 0


if __name__ == "__main__":
    unittest.main()
