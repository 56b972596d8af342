"""The optional backend: where it must agree with our search, and what happens without it."""

from __future__ import annotations

import importlib.util
import tempfile
import unittest
from pathlib import Path

import torch

from hw_asr.decoders.beam_search import BeamSearchDecoder
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.decoders.pyctcdecode import PyctcdecodeDecoder
from hw_asr.errors import UserError
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.missing_packages import missing
from hw_asr.text.encoder import CTCCharTextEncoder


def spell(text: str, encoder: CTCCharTextEncoder, confidence: float) -> torch.Tensor:
    """Give log-probabilities (1, T, V) that say `text`, with a blank between any two characters."""
    labels = [label for character in encoder.encode(text) for label in (character, 0)]
    log_probs = torch.full((1, len(labels), len(encoder)), (1 - confidence) / (len(encoder) - 1))
    log_probs[0, torch.arange(len(labels)), torch.tensor(labels)] = confidence
    return log_probs.log()


class MissingTest(unittest.TestCase):
    def test_without_the_package_there_is_advice(self) -> None:
        with (
            missing("pyctcdecode"),
            self.assertRaisesRegex(UserError, "needs the package pyctcdecode.*or use 'beam_search'"),
        ):
            PyctcdecodeDecoder(CTCCharTextEncoder()).prepare()


@unittest.skipUnless(importlib.util.find_spec("pyctcdecode"), "pyctcdecode is not installed")
class ParityTest(unittest.TestCase):
    def test_clear_speech_reads_the_same(self) -> None:
        encoder = CTCCharTextEncoder()
        peer, ours = PyctcdecodeDecoder(encoder, name="peer"), BeamSearchDecoder(encoder)
        self.assertEqual(peer.name, "peer")
        for text in ("the cat sat", "aa bb", "a", ""):
            log_probs = spell(text, encoder, 0.95) if text else spell("a", encoder, 0.95)[:, 1:]
            lengths = torch.tensor([log_probs.shape[1]])
            one, other = peer(log_probs, lengths)[0][0], ours(log_probs, lengths)[0][0]
            self.assertEqual((one.text, other.text), (text, text))
            self.assertAlmostEqual(one.log_prob, other.log_prob, delta=1e-9)
        self.assertEqual(peer(log_probs, torch.tensor([0]))[0][0].text, "")

    @unittest.skipUnless(importlib.util.find_spec("kenlm"), "kenlm is not installed")
    def test_with_a_language_model(self) -> None:
        encoder = CTCCharTextEncoder("ab ")
        with tempfile.TemporaryDirectory() as directory:
            path = ArpaExample(all_words("ab", 2), 2, 0).write(Path(directory, "model.arpa"))
            peer = PyctcdecodeDecoder(encoder, path)
            ours = LanguageModelBeamSearchDecoder(encoder, path)
            peer.prepare()
            ours.prepare()
        for text in ("ab a bb", "a b"):
            log_probs = spell(text, encoder, 0.98)
            lengths = torch.tensor([log_probs.shape[1]])
            self.assertEqual(peer(log_probs, lengths)[0][0].text, text)
            self.assertEqual(ours(log_probs, lengths)[0][0].text, text)
        with self.assertRaisesRegex(UserError, "no such language model"):
            PyctcdecodeDecoder(encoder, Path(directory, "none.arpa")).prepare()


if __name__ == "__main__":
    unittest.main()
