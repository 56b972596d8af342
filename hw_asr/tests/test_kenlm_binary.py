"""KenLM binaries, read with the package `kenlm`.

`fixtures/kenlm` has the model of `EXAMPLE`, converted by KenLM's `build_binary trie model.arpa model.bin`, and without
its words (`build_binary -v trie`).
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.lm.kenlm_binary import KenlmTable
from hw_asr.lm.language_model import LanguageModel
from hw_asr.lm.table_filling import score_words
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.missing_packages import missing
from hw_asr.tests.test_beam_search import random_log_probs
from hw_asr.text.encoder import CTCCharTextEncoder

ALPHABET = "ab "
FILES = Path(__file__).parent / "fixtures" / "kenlm"
BINARY = FILES / "model.bin"
EXAMPLE = ArpaExample([word for word in all_words("ab", 3) if word != "aba"], 3, 0)


@unittest.skipUnless(importlib.util.find_spec("kenlm"), "kenlm is not installed")
class BinaryTest(unittest.TestCase):
    def test_decodes_like_the_arpa_file(self) -> None:
        encoder = CTCCharTextEncoder(ALPHABET)
        with tempfile.TemporaryDirectory() as directory:
            path = EXAMPLE.write(Path(directory) / "model.arpa")
            arpa = LanguageModelBeamSearchDecoder(encoder, path, beam_size=30, num_threads=1)
            binary = LanguageModelBeamSearchDecoder(encoder, BINARY, beam_size=30, num_threads=4)
            log_probs, lengths = random_log_probs((6, 60, 4), 0, 3.0), torch.tensor([60, 60, 0, 13, 60, 1])
            expected, actual = arpa(log_probs, lengths), binary(log_probs, lengths)
        self.assertEqual([len(hypotheses) for hypotheses in expected], [len(hypotheses) for hypotheses in actual])
        for row, other_row in zip(expected, actual, strict=True):
            for hypothesis, other in zip(row, other_row, strict=True):
                self.assertEqual(hypothesis.text, other.text)
                self.assertAlmostEqual(hypothesis.score, other.score, delta=1e-4)

    def test_the_table_keeps_its_answers_when_it_grows(self) -> None:
        table = KenlmTable(BINARY)
        size = len(table.table.log_probs)
        missed = [(0, word) for word in range(len(table.words))]
        table.table.misses[: len(missed)] = missed
        table.table.num_misses[0] = len(missed)
        table.fill_misses()
        table._make_room(4 * size)
        for state, word in missed:
            log_prob = score_words(table.table, state, np.array([word], np.int32))
            expected = EXAMPLE._log_prob(("<s>",), table.words[word]) * math.log(10)
            self.assertAlmostEqual(log_prob, expected, places=4)
        self.assertEqual(table.table.num_misses[0], 0)
        score_words(table.table, 1, np.array([3], np.int32))
        self.assertEqual((table.table.num_misses[0], table.table.misses[0].tolist()), (1, [1, 3]))

    def test_scores(self) -> None:
        model = LanguageModel.load(BINARY, "^" + ALPHABET)
        for sentence in (["a", "zz"], ["ab", "b", "bab", "a"], []):
            self.assertAlmostEqual(model.score(sentence), EXAMPLE.score(sentence), places=4)
        self.assertEqual(model.overlap.num_spellable, 13)

    def test_a_binary_without_words(self) -> None:
        with self.assertRaisesRegex(LanguageModelError, "without its words"):
            LanguageModel.load(FILES / "without_words.bin", "^" + ALPHABET)

    def test_a_damaged_header_is_noticed_before_the_library_sees_it(self) -> None:
        whole = BINARY.read_bytes()
        with tempfile.TemporaryDirectory() as directory, missing("kenlm"):
            path = Path(directory) / "model.bin"
            for begin, content in ((50, b"6"), (60, b"xxxx"), (88, b"\x00"), (88, b"\xff"), (108, b"\xff" * 8)):
                path.write_bytes(whole[:begin] + content + whole[begin + len(content) :])
                with self.assertRaisesRegex(LanguageModelError, "model.bin: a damaged KenLM binary"):
                    LanguageModel.load(path, "^" + ALPHABET)

    def test_a_damaged_binary(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "cut.bin"
            path.write_bytes(BINARY.read_bytes()[:400])
            with self.assertRaisesRegex(LanguageModelError, "cut.bin: KenLM cannot read this file"):
                LanguageModel.load(path, "^" + ALPHABET)


class MissingPackageTest(unittest.TestCase):
    def test_the_message_names_the_package_and_the_alternative(self) -> None:
        with (
            missing("kenlm"),
            self.assertRaisesRegex(LanguageModelError, "model.bin: .*pip install 'hw_asr\\[kenlm\\]'.*the ARPA file"),
        ):
            LanguageModel.load(BINARY, "^" + ALPHABET)


if __name__ == "__main__":
    unittest.main()
