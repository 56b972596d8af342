"""KenLM binaries: a stand-in for the package with the same interface, and the package itself where it is installed."""

from __future__ import annotations

import math
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.lm.arpa import KENLM_MAGIC, LanguageModelError
from hw_asr.lm.kenlm_binary import KenlmTable
from hw_asr.lm.language_model import LanguageModel
from hw_asr.lm.table import score_words
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.test_beam_search import random_log_probs
from hw_asr.text.encoder import CTCCharTextEncoder

ALPHABET = "ab "


class State:
    """A history of words."""

    def __init__(self) -> None:
        self.words: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.words == other.words


def stand_in(example: ArpaExample) -> types.ModuleType:
    """Return a module that answers as kenlm would for any file."""

    class Model:
        order = example.order

        def __init__(self, path: str) -> None:
            self.path = path

        def BeginSentenceWrite(self, state: State) -> None:  # noqa: N802
            state.words = ("<s>",)[: self.order - 1]

        def NullContextWrite(self, state: State) -> None:  # noqa: N802
            state.words = ()

        def BaseScore(self, before: State, word: str, after: State) -> float:  # noqa: N802
            known = word if (word,) in example.log_probs else "<unk>"
            after.words = (*before.words, known)[1 - self.order :] if self.order > 1 else ()
            return example._log_prob(before.words, known)

        def score(self, text: str, bos: bool, eos: bool) -> float:
            return example.score(text.split(), bos, eos) / math.log(10)

    module = types.ModuleType("kenlm")
    module.Model, module.State = Model, State  # type: ignore[attr-defined]
    return module


class BinaryTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.example = ArpaExample([word for word in all_words("ab", 3) if word != "aba"], 3, 0)
        words = [ngram[0] for ngram in self.example.log_probs if len(ngram) == 1 and ngram != ("<unk>",)]
        self.binary = self.directory / "model.bin"
        self.binary.write_bytes(
            KENLM_MAGIC + b" version 5\n\0" + bytes(100) + "\0".join(["<unk>", *words, ""]).encode()
        )

    def use(self, module: types.ModuleType | None) -> None:
        patch = mock.patch.dict(sys.modules, {"kenlm": module})
        patch.start()
        self.addCleanup(patch.stop)

    def test_decodes_as_the_arpa_does(self) -> None:
        self.use(stand_in(self.example))
        encoder = CTCCharTextEncoder(ALPHABET)
        arpa = self.example.write(self.directory / "model.arpa")
        ours = LanguageModelBeamSearchDecoder(encoder, arpa, beam_size=30, num_threads=1)
        binary = LanguageModelBeamSearchDecoder(encoder, self.binary, beam_size=30, num_threads=4)
        log_probs, lengths = random_log_probs((6, 60, 4), 0, 3.0), torch.tensor([60, 60, 0, 13, 60, 1])
        for one, other in zip(ours(log_probs, lengths), binary(log_probs, lengths), strict=True):
            self.assertEqual([each.text for each in one], [each.text for each in other])
            for each, same in zip(one, other, strict=True):
                self.assertAlmostEqual(each.score, same.score, delta=1e-4)

    def test_its_table_keeps_answers_when_it_grows(self) -> None:
        self.use(stand_in(self.example))
        table = KenlmTable(self.binary)
        size = len(table.ngrams[0])
        asked = [(0, word) for word in range(len(table.words))]
        table.misses[1 : len(asked) + 1] = asked
        table.misses[0, 0] = len(asked)
        table.resolve()
        table._make_room(4 * size)
        for state, word in asked:
            log_prob = score_words(table.ngrams, state, np.array([word], np.int32))
            expected = self.example._log_prob(("<s>",), table.words[word]) * math.log(10)
            self.assertAlmostEqual(log_prob, expected, places=4)
        self.assertEqual(table.misses[0, 0], 0)
        score_words(table.ngrams, 1, np.array([3], np.int32))
        self.assertEqual(table.misses[:2].tolist(), [[1, 0], [1, 3]])

    def test_scores(self) -> None:
        self.use(stand_in(self.example))
        model = LanguageModel.load(self.binary, "^" + ALPHABET)
        self.assertAlmostEqual(model.score(["a", "zz"]), self.example.score(["a", "zz"]), places=9)
        self.assertEqual(model.overlap.num_spellable, 13)

    def test_without_the_package_or_the_words(self) -> None:
        self.use(None)
        with self.assertRaisesRegex(LanguageModelError, "needs the package kenlm.*or give the ARPA"):
            LanguageModel.load(self.binary, "^" + ALPHABET)
        self.use(stand_in(self.example))
        self.binary.write_bytes(KENLM_MAGIC + b" version 5\n\0" + bytes(100))
        with self.assertRaisesRegex(LanguageModelError, "without its words"):
            LanguageModel.load(self.binary, "^" + ALPHABET)


if __name__ == "__main__":
    unittest.main()
