"""Normalisation and the character encoder."""

from __future__ import annotations

import itertools
import random
import string
import unittest

from hw_asr.config.registry import TEXT_ENCODERS
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.text.normalize import normalize

LETTERS = frozenset(string.ascii_lowercase + " ")


class NormalizeTest(unittest.TestCase):
    def test_what_becomes_of_text(self) -> None:
        for text, expected in (
            ("MISTER QUILTER IS THE APOSTLE", "mister quilter is the apostle"),
            ("  Hello,\tworld!\n", "hello world"),
            ("world-wide twenty–one and/or", "world wide twenty one and or"),
            ("café naïve ﬁne", "cafe naive fine"),
            ("it's", "its"),
            ("...", ""),
            ("", ""),
        ):
            self.assertEqual(expected, normalize(text, LETTERS))

    def test_an_apostrophe_in_the_alphabet_is_kept_in_every_form(self) -> None:
        for text in ("don't", "don’t", "DON`T", "donʼt"):
            self.assertEqual("don't", normalize(text, LETTERS | {"'"}))

    def test_another_apostrophe_in_the_alphabet(self) -> None:
        for text in ("п'ять", "п’ять", "пʼять", "п´ять"):
            self.assertEqual("пʼять", normalize(text, frozenset("птьяʼ ")))
        self.assertEqual("don't", normalize("don´t", LETTERS | {"'"}))
        self.assertEqual("a'b’c", normalize("a'b’c", LETTERS | {"'", "’"}))

    def test_case_follows_the_alphabet(self) -> None:
        self.assertEqual("ABC", normalize("abc", frozenset("ABC ")))
        self.assertEqual("aBc", normalize("aBc", frozenset("abcABC ")))

    def test_case_of_turkish_and_of_the_sharp_s(self) -> None:
        turkish = "abcçdefgğhıijklmnoöprsştuüvyz "
        self.assertEqual("ışık isparta istanbul", normalize("IŞIK İSPARTA İstanbul", frozenset(turkish)))
        capitals = frozenset("ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ ")
        self.assertEqual("IŞIK İSTANBUL", normalize("ışık istanbul", capitals))
        german = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜß ")
        self.assertEqual("HALLO WELT", normalize("hallo Welt", german))

    def test_an_apostrophe_that_composing_makes(self) -> None:
        self.assertEqual("'n man", normalize("\u0149 man", frozenset("'amn ")))

    def test_other_scripts(self) -> None:
        cyrillic = frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяё ")
        self.assertEqual("ёлка и йод", normalize("Ёлка — и йод!", cyrillic))
        self.assertEqual("елка", normalize("ёлка", cyrillic - {"ё"}))

    def test_an_alphabet_without_a_space(self) -> None:
        for text in ("七六 三四", "七六-三四", "七六／三四", " 七\t六\n三四 "):
            self.assertEqual("七六三四", normalize(text, frozenset("三四六七")))

    def test_a_listed_character_survives_its_decomposition(self) -> None:
        thai = frozenset("กนาำ้")  # ำ is U+0E33, which NFKC makes U+0E4D U+0E32
        self.assertEqual("น้ำนา", normalize("น้ำ นา", thai))
        self.assertEqual("นำ", normalize("น\u0e4d\u0e32", thai))
        hindi = frozenset("क\u0958 ")  # U+0958 is never composed from U+0915 U+093C
        self.assertEqual("\u0958 क", normalize("\u0958 क", hindi))
        self.assertEqual("\u0958", normalize("\u0915\u093c", hindi))
        for listed in "´ﬃ²":
            self.assertEqual(listed, normalize(listed, frozenset(listed)))

    def test_a_decomposition_that_the_alphabet_spells_is_kept(self) -> None:
        self.assertEqual("2 ab", normalize("² AB", frozenset("²2ab ")))
        self.assertEqual("html", normalize("HTML", frozenset("html™")))

    def test_it_is_idempotent_and_stays_in_the_alphabet(self) -> None:
        rng = random.Random(0)
        for alphabet, _ in itertools.product((LETTERS, LETTERS - {" "}, LETTERS | {"´", "ﬁ", "\u0e33"}), range(500)):
            text = "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(160, 0x2FFF)])) for _ in range(12))
            once = normalize(text, alphabet)
            self.assertLessEqual(set(once), alphabet)
            self.assertEqual(once, normalize(once, alphabet))


class EncoderTest(unittest.TestCase):
    def test_blank_first_then_the_alphabet_in_its_order(self) -> None:
        self.assertEqual(("^", *string.ascii_lowercase, " "), CTCCharTextEncoder().alphabet)
        self.assertEqual(("^", "b", "a"), CTCCharTextEncoder("ba").alphabet)
        self.assertEqual(28, len(CTCCharTextEncoder()))

    def test_round_trip(self) -> None:
        encoder = TEXT_ENCODERS.build({"type": "CTCCharTextEncoder", "args": {"alphabet": list("abc' ")}})
        self.assertEqual([1, 4, 2, 5, 3], encoder.encode("a'b c"))
        self.assertEqual("a'b c", encoder.decode(encoder.encode("a'b c")))

    def test_unknown_characters_are_named(self) -> None:
        with self.assertRaisesRegex(ValueError, r"\['!', 'é'\]"):
            CTCCharTextEncoder().encode("é!")
        with self.assertRaisesRegex(ValueError, r"\['\^'\]"):  # the blank is a class, but no character
            CTCCharTextEncoder().encode("a^b")

    def test_collapse_equals_the_definition_on_every_path(self) -> None:
        encoder = CTCCharTextEncoder("ab")
        for length in range(6):
            for path in itertools.product(range(3), repeat=length):
                expected, previous = "", 0
                for label in path:
                    if label not in (0, previous):
                        expected += "^ab"[label]
                    previous = label
                self.assertEqual(expected, encoder.collapse(path))

    def test_invalid_alphabets(self) -> None:
        for alphabet, expected in ((["ab"], "one character"), ("a^", "blank"), ("aba", "duplicate")):
            with self.assertRaisesRegex(ValueError, expected):
                CTCCharTextEncoder(alphabet)


if __name__ == "__main__":
    unittest.main()
