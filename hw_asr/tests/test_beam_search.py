"""Beam search and argmax against enumeration, ctc_loss and themselves."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import subprocess
import sys
import unittest
from unittest import mock

import numpy as np
import torch

from hw_asr.decoders import batch_search
from hw_asr.decoders.argmax import ArgmaxDecoder
from hw_asr.decoders.base import DecodingError
from hw_asr.decoders.beam_search import BeamSearchDecoder
from hw_asr.tests.waiting import DEADLINE
from hw_asr.text.encoder import CTCCharTextEncoder


def enumerate_texts(log_probs: np.ndarray, alphabet: str) -> dict[str, float]:
    """Sum the probabilities of all alignments of every text; alphabet[0] is the blank."""
    texts: dict[str, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = "".join(alphabet[symbol] for symbol, _ in itertools.groupby(path) if symbol)
        probability = math.exp(sum(log_probs[frame, symbol] for frame, symbol in enumerate(path)))
        texts[text] = texts.get(text, 0.0) + probability
    return {text: probability for text, probability in texts.items() if probability > 0}


def without_outer_spaces(texts: dict[str, float]) -> dict[str, float]:
    """Return the texts as beam searches give them, with the probabilities of all that differ in outer spaces."""
    stripped: dict[str, float] = {}
    for text, probability in texts.items():
        stripped[text.strip()] = stripped.get(text.strip(), 0.0) + probability
    return stripped


def random_log_probs(shape: tuple[int, ...], seed: int, scale: float = 2.0, zeros: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    impossible = torch.rand(shape, generator=generator) < zeros
    impossible[..., 0] = False
    return torch.log_softmax(logits.masked_fill(impossible, -torch.inf), -1)


def exact(alphabet: str, **arguments: int) -> BeamSearchDecoder:
    return BeamSearchDecoder(
        CTCCharTextEncoder(alphabet),
        beam_size=4000,
        n_best=4000,
        symbol_floor=None,
        beam_threshold=None,
        **arguments,
    )


class EnumerationTest(unittest.TestCase):
    def test_every_text_and_probability(self) -> None:
        for case in range(60):
            num_frames, num_classes = case % 7, 2 + case % 3
            alphabet = "ab "[: num_classes - 1]
            log_probs = random_log_probs((num_frames, num_classes), case, [0.1, 1, 5][case % 3], 0.3 * (case % 2))
            found = exact(alphabet)(log_probs[None], torch.tensor([num_frames]))[0]
            expected = without_outer_spaces(enumerate_texts(log_probs.numpy(), "^" + alphabet))
            self.assertEqual(sorted(hypothesis.text for hypothesis in found), sorted(expected))
            for hypothesis in found:
                self.assertAlmostEqual(math.exp(hypothesis.log_prob), expected[hypothesis.text], delta=1e-9)
                self.assertEqual(hypothesis.log_prob, hypothesis.score)
            self.assertEqual(found, sorted(found, key=lambda hypothesis: -hypothesis.log_prob))

    def test_texts_that_alignments_kept_apart_would_lose(self) -> None:
        log_probs = torch.tensor([[[0.3, 0.2, 0.5], [0.6, 0.4, 0.0]]]).log()
        decoder = BeamSearchDecoder(CTCCharTextEncoder("ab"), beam_size=4, symbol_floor=None, beam_threshold=None)
        found = decoder(log_probs, torch.tensor([2]))[0]
        self.assertEqual([each.text for each in found], ["a", "b", "ba", ""])
        for each, probability in zip(found, (0.32, 0.30, 0.20, 0.18), strict=True):
            self.assertAlmostEqual(math.exp(each.log_prob), probability, places=6)


class LongTest(unittest.TestCase):
    def setUp(self) -> None:
        self.encoder = CTCCharTextEncoder()
        self.log_probs = random_log_probs((6, 180, 28), 3, 3.0)
        self.log_probs[1] = random_log_probs((180, 28), 4, 9.0)
        self.lengths = torch.tensor([180, 150, 0, 1, 37, 180])

    def test_probability_is_that_of_ctc_loss(self) -> None:
        for decoder, most in ((ArgmaxDecoder(self.encoder), 0), (BeamSearchDecoder(self.encoder, beam_size=20), 12)):
            for index, found in enumerate(decoder(self.log_probs, self.lengths)):
                for each in found if self.lengths[index] else []:
                    outer = [" " * count for count in range(most + 1)]
                    texts = [before + each.text + after for before in outer for after in outer]
                    sizes = torch.tensor([len(text) for text in texts])
                    losses = torch.nn.functional.ctc_loss(
                        self.log_probs[index, : self.lengths[index], None].expand(-1, len(texts), -1),
                        torch.tensor(self.encoder.encode("".join(texts))),
                        self.lengths[index].expand(len(texts)),
                        sizes,
                        reduction="none",
                    )
                    self.assertAlmostEqual(each.log_prob, torch.logsumexp(-losses, 0).item(), delta=1e-7)

    def test_a_long_labelling_takes_no_table_of_frames_by_characters(self) -> None:
        length = 20_000  # ctc_loss would ask for 6 GB; one path gives the text, so that its probability is known
        log_probs = torch.full((1, length, 28), math.log(0.01))
        log_probs[0, 0::2, 1] = log_probs[0, 1::2, 2] = math.log(0.73)
        (found,) = ArgmaxDecoder(self.encoder)(log_probs, torch.tensor([length]))
        self.assertEqual("ab" * (length // 2), found[0].text)
        self.assertAlmostEqual(length * math.log(0.73), found[0].log_prob, delta=0.01)

    def test_improbable_texts_have_exact_probabilities_too(self) -> None:
        from hw_asr.decoders.ctc_forward import labelling_log_likelihood

        for seed, scale in itertools.product(range(8), (1.0, 30.0, 200.0)):
            log_probs = random_log_probs((40, 6), seed, scale, zeros=0.2 * (seed % 2))
            targets = torch.randint(1, 6, (1, 5 * (seed + 1) if seed < 6 else 19), generator=torch.Generator())
            loss = torch.nn.functional.ctc_loss(
                log_probs[:, None], targets, torch.tensor([40]), torch.tensor([targets.shape[1]]), reduction="sum"
            )
            result = labelling_log_likelihood(log_probs.numpy(), targets[0].tolist())
            if result > -700:  # below that the probabilities of single classes vanish
                self.assertAlmostEqual(result, -loss.item(), delta=1e-8 * max(1, abs(result)))

    def test_long_unsure_recordings_need_no_logarithms(self) -> None:
        from hw_asr.decoders import ctc_forward
        from hw_asr.decoders.ctc_forward_in_logarithms import forward_in_logarithms
        from hw_asr.decoders.frames import one_utterance

        log_probs = random_log_probs((3000, 6), 3, 1.0)
        labels = [symbol for symbol, _ in itertools.groupby(log_probs.argmax(1).tolist()) if symbol]
        loss = torch.nn.functional.ctc_loss(
            log_probs[:, None], torch.tensor([labels]), torch.tensor([3000]), torch.tensor([len(labels)]),
            reduction="sum",
        )  # fmt: skip
        frames, cells = one_utterance(log_probs.numpy()), np.empty((2, 2 * len(labels) + 6))
        targets = np.array(labels, np.int32)
        _, lost = ctc_forward.forward(frames, targets, -1, cells, ctc_forward.NEGLIGIBLE)
        self.assertGreater(lost, ctc_forward.TOLERANCE)
        scale = float(sum(frames.peaks.tolist()))  # since Python 3.12 this rounds less than a loop
        banded, _ = ctc_forward.forward(frames, targets, -1, cells, ctc_forward.BARELY_THERE)
        slow = forward_in_logarithms(frames, targets, -1, cells)
        self.assertEqual(ctc_forward.careful_log_likelihood(frames, targets, -1, long=1), scale + banded)
        self.assertEqual(ctc_forward.labelling_log_likelihood(log_probs.numpy(), labels), scale + slow)
        for log_prob in (banded, slow):
            self.assertAlmostEqual(scale + log_prob, -loss.item(), delta=1e-8 * abs(loss.item()))

    @mock.patch.object(batch_search, "FRAMES_PER_THREAD", 1)  # so that few frames are decoded on threads
    def test_results_depend_on_nothing_but_the_utterance(self) -> None:
        reference = BeamSearchDecoder(self.encoder, beam_size=30, num_threads=1)(self.log_probs, self.lengths)
        threaded = BeamSearchDecoder(self.encoder, beam_size=30, num_threads=4)
        self.assertEqual(threaded(self.log_probs, self.lengths), reference)
        order = torch.tensor([5, 2, 0, 4, 1, 3])
        self.assertEqual(threaded(self.log_probs[order], self.lengths[order]), [reference[index] for index in order])
        alone = [threaded(self.log_probs[[index]], self.lengths[[index]])[0] for index in range(6)]
        self.assertEqual(alone, reference)
        padded = torch.nn.functional.pad(self.log_probs, (0, 0, 0, 20), value=torch.nan)
        self.assertEqual(threaded(padded, self.lengths), reference)

    @unittest.skipUnless("fork" in multiprocessing.get_all_start_methods(), "fork")
    @mock.patch.object(batch_search, "FRAMES_PER_THREAD", 1)
    def test_a_forked_process_has_threads_of_its_own(self) -> None:
        decoder = BeamSearchDecoder(self.encoder, beam_size=30, num_threads=2)
        values, lengths = self.log_probs.numpy(), self.lengths.numpy()
        expected = decoder(values, lengths)
        child = multiprocessing.get_context("fork").Process(
            target=lambda: sys.exit(decoder(values, lengths) != expected)
        )
        child.start()
        self.addCleanup(child.kill)
        child.join(DEADLINE)
        self.assertEqual(0, child.exitcode)

    def test_small_trees_are_cleaned_up_without_a_trace(self) -> None:
        from hw_asr.decoders import prefix_search

        reference = BeamSearchDecoder(self.encoder, beam_size=30)(self.log_probs, self.lengths)
        original = prefix_search.empty_tree
        sizes = []

        def small_tree(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
            sizes.append(num_nodes)
            return original(40)

        prefix_search.empty_tree = small_tree
        self.addCleanup(setattr, prefix_search, "empty_tree", original)
        self.assertEqual(BeamSearchDecoder(self.encoder, beam_size=30)(self.log_probs, self.lengths), reference)
        self.assertTrue(sizes)

    def test_texts_have_no_outer_spaces_and_are_not_repeated(self) -> None:
        log_probs = self.log_probs.clone()
        log_probs[:, :4, 27] = log_probs[:, 170:, 27] = 8.0  # the space
        log_probs = log_probs.log_softmax(-1)
        for found in BeamSearchDecoder(self.encoder, beam_size=100, n_best=100)(log_probs, torch.full((6,), 180)):
            texts = [hypothesis.text for hypothesis in found]
            self.assertEqual(texts, [text.strip() for text in texts])
            self.assertEqual(len(texts), len(set(texts)))

    def test_classes_of_several_characters(self) -> None:
        syllables = mock.Mock(alphabet=("^", "ka", "a", " "))
        log_probs = torch.tensor([[1.0, 5, 0, 0], [5, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [0, 5, 0, 0]]).log_softmax(
            1
        )
        (found,) = BeamSearchDecoder(syllables)(log_probs[None], torch.tensor([5]))
        self.assertEqual(found[0].text, "kaa ka")

    def test_of_two_spellings_the_better_remains(self) -> None:
        syllables = mock.Mock(alphabet=("^", "ka", "k", "a"))
        log_probs = torch.tensor([[0.02, 0.9, 0.06, 0.02], [0.88, 0.02, 0.02, 0.08]]).log()
        (found,) = BeamSearchDecoder(syllables)(log_probs[None], torch.tensor([2]))
        self.assertEqual("ka", found[0].text)
        self.assertAlmostEqual(0.9 * 0.88 + 0.02 * 0.02 + 0.9 * 0.02, math.exp(found[0].log_prob), places=6)

    def test_other_types_and_layouts(self) -> None:
        decoder = BeamSearchDecoder(self.encoder, beam_size=30)
        reference = decoder(self.log_probs, self.lengths)
        transposed = self.log_probs.transpose(0, 1).contiguous().transpose(0, 1)
        self.assertEqual(decoder(transposed, self.lengths), reference)
        for dtype, tolerance in ((torch.float32, 1e-3), (torch.float16, 2.0)):
            found = decoder(self.log_probs.to(dtype), self.lengths)
            for one, other in zip(found, reference, strict=True):
                self.assertAlmostEqual(one[0].log_prob, other[0].log_prob, delta=tolerance)


class EdgeTest(unittest.TestCase):
    def test_no_frames_and_one(self) -> None:
        log_probs = torch.tensor([[[0.2, 0.5, 0.3]]]).log()
        for decoder in (exact("ab"), ArgmaxDecoder(CTCCharTextEncoder("ab"))):
            self.assertEqual(decoder(log_probs, torch.tensor([0]))[0][0].text, "")
            self.assertEqual(decoder(log_probs, torch.tensor([0]))[0][0].log_prob, 0.0)
            self.assertEqual(decoder(log_probs[:, :0], torch.tensor([0]))[0][0].text, "")
            self.assertEqual(decoder(log_probs, torch.tensor([1]))[0][0].text, "a")
            self.assertEqual(decoder(log_probs[:0], torch.zeros(0, dtype=torch.long)), [])

    def test_numbers_that_a_double_hardly_holds(self) -> None:
        from hw_asr.decoders.ctc_forward import labelling_log_likelihood

        log_probs = np.array([[0, -720, -720], [-720, 0, -720], [0, -720, -720]], np.float64)
        self.assertAlmostEqual(labelling_log_likelihood(log_probs, [2]), -720, delta=0.01)

    def test_a_likely_outer_space_loses_no_text(self) -> None:
        encoder = CTCCharTextEncoder("helow ")
        log_probs = torch.full((1, 7, 7), 0.001)
        for frame, symbol in enumerate([1, 2, 3, 0, 3, 4, 6]):
            log_probs[0, frame, symbol] = 0.99
        log_probs[0, 6, 5] = 0.06
        log_probs = (log_probs / log_probs.sum(2, keepdim=True)).log()
        for n_best in (1, 10):
            (found,) = BeamSearchDecoder(encoder, n_best=n_best)(log_probs, torch.tensor([7]))
            self.assertEqual("hello", found[0].text)

    def test_all_blank_and_uniform(self) -> None:
        blank = torch.full((1, 50, 3), -torch.inf)
        blank[..., 0] = 0
        found = exact("ab")(blank, torch.tensor([50]))[0]
        self.assertEqual([(each.text, each.log_prob) for each in found], [("", 0.0)])
        uniform = torch.full((1, 5, 3), -math.log(3))
        found = exact("ab")(uniform, torch.tensor([5]))[0]
        expected = enumerate_texts(uniform[0].double().numpy(), "^ab")
        self.assertAlmostEqual(math.exp(found[0].log_prob), max(expected.values()), places=6)

    def test_frames_that_are_no_distribution_are_named(self) -> None:
        for value, reason in (
            (torch.nan, "nan"),
            (torch.inf, "inf"),
            (-torch.inf, "probability 0"),
            (3.0, "log_softmax"),
        ):
            log_probs = random_log_probs((3, 9, 3), 0)
            log_probs[1, 4] = value
            for decoder in (exact("ab"), ArgmaxDecoder(CTCCharTextEncoder("ab"))):
                with self.subTest(value=value), self.assertRaisesRegex(DecodingError, reason) as caught:
                    decoder(log_probs, torch.tensor([9, 9, 9]))
                self.assertEqual(caught.exception.index, 1)
                decoder(log_probs, torch.tensor([9, 4, 9]))

    def test_arguments(self) -> None:
        encoder = CTCCharTextEncoder("ab")
        wrong = ({"beam_size": 0}, {"n_best": 0}, {"symbol_floor": 1.0}, {"beam_threshold": -1.0}, {"num_threads": 0})
        for arguments in (*wrong, {"beam_threshold": math.nan}, {"hotwords": ["?"]}, {"hotwords": {"a": math.nan}}):
            with self.subTest(arguments), self.assertRaisesRegex(ValueError, f"^{next(iter(arguments))}:"):
                BeamSearchDecoder(encoder, **arguments)
        for log_probs, lengths in (((2, 3, 4), (3, 3)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 4)), ((3, 3), (3,))):
            with self.assertRaises(ValueError):
                exact("ab")(torch.zeros(log_probs), torch.tensor(lengths))

    def test_import_is_cheap(self) -> None:
        code = "import sys, hw_asr.decoders; sys.exit('numba' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
