"""Word times against enumeration and torchaudio's aligner."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from hw_asr.config import read_json
from hw_asr.datasets.audio import read_audio
from hw_asr.decoders.alignment import AlignmentError, align, align_characters, words
from hw_asr.experiment.network import make_network
from hw_asr.experiment.validation import validate
from hw_asr.models.forward import run_model
from hw_asr.tests.test_beam_search import random_log_probs
from hw_asr.tests.test_spectrograms import MISSING, torchaudio
from hw_asr.text.encoder import CTCCharTextEncoder

ROOT = Path(__file__).resolve().parents[2]


def best_by_enumeration(log_probs: np.ndarray, labels: list[int]) -> float:
    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    return max(
        sum(log_probs[frame, symbol] for frame, symbol in enumerate(path))
        for path in paths
        if [symbol for symbol, _ in itertools.groupby(path) if symbol] == labels
    )


class PathTest(unittest.TestCase):
    def score(self, log_probs: np.ndarray, labels: list[int], path: np.ndarray) -> float:
        """Check that a path gives the labels and return its log-probability."""
        symbols = [labels[state >> 1] if state & 1 else 0 for state in path]
        self.assertTrue(all(step in (0, 1, 2) for step in np.diff(path)))
        self.assertEqual([symbol for symbol, _ in itertools.groupby(symbols) if symbol], labels)
        return float(sum(log_probs[frame, symbol] for frame, symbol in enumerate(symbols)))

    def test_best_of_all_paths(self) -> None:
        for seed, labels in enumerate(([1], [1, 1], [1, 2], [2, 1, 2], [1, 1, 2], [])):
            log_probs = random_log_probs((6, 3), seed).numpy()
            path = align_characters(log_probs, labels)
            self.assertAlmostEqual(self.score(log_probs, labels, path), best_by_enumeration(log_probs, labels))

    @unittest.skipIf(MISSING, MISSING)
    def test_torchaudio_finds_paths_as_good(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for seed in range(40):
            labels = torch.randint(1, 4 if seed % 2 else 28, (1 + seed,), generator=generator)
            log_probs = random_log_probs((2 * len(labels) + seed, 28), seed)
            _, scores = torchaudio.functional.forced_align(log_probs[None], labels[None], blank=0)
            path = align_characters(log_probs.numpy(), labels.tolist())
            self.assertAlmostEqual(self.score(log_probs.numpy(), labels.tolist(), path), scores.sum().item(), places=6)

    def test_blocks_find_what_one_block_finds(self) -> None:
        generator = torch.Generator().manual_seed(1)
        for seed, size in enumerate((1, 2, 3, 7, 64, 65)):
            for num_labels in (0, 1, 20, 60):
                labels = torch.randint(1, 4, (num_labels,), generator=generator).tolist()
                log_probs = random_log_probs((130, 4), seed).numpy()
                path = align_characters(log_probs, labels)
                with mock.patch("hw_asr.decoders.alignment.BLOCK_FRAMES", size):
                    again = align_characters(log_probs, labels)
                self.assertEqual(path.tolist(), again.tolist(), (size, num_labels))

    def test_memory_does_not_grow_with_the_square_of_a_recording(self) -> None:
        align_characters(random_log_probs((4, 3), 0).numpy(), [1])  # what compiles is not counted
        num_frames, num_labels = 16_000, 5_000
        log_probs = random_log_probs((num_frames, 3), 0).numpy()
        tracemalloc.start()
        align_characters(log_probs, [1, 2] * (num_labels // 2))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, num_frames * num_labels // 4)


class SpeechTest(unittest.TestCase):
    @unittest.skipIf(MISSING, MISSING)
    def test_words_are_where_torchaudio_finds_them(self) -> None:
        config = validate(read_json(ROOT / "hw_asr/configs/demo.json"), "demo.json")
        torch.manual_seed(0)
        network = make_network(config, torch.device("cpu"))
        encoder, num_words = network.text_encoder, 0
        for line in (ROOT / "demo/corpus/dev.jsonl").read_text(encoding="utf-8").splitlines()[:20]:
            path, text = (json.loads(line)[key] for key in ("path", "text"))
            text = encoder.normalize(text)
            samples = torch.from_numpy(read_audio(ROOT / "demo/corpus" / path, config.preprocessing.sr))[None]
            with torch.inference_mode():
                features, lengths = network.front_end(samples, torch.tensor([samples.shape[1]]))
                log_probs = run_model(network.model.eval(), features, lengths, "fp32")[0]
            symbols, _ = torchaudio.functional.forced_align(log_probs, torch.tensor([encoder.encode(text)]))
            expected = word_spans(symbols[0].tolist(), encoder.alphabet.index(" "))
            self.assertEqual([span[1:3] for span in align(log_probs[0], text, encoder)], expected, path)
            num_words += len(expected)
        self.assertGreater(num_words, 100)


def word_spans(symbols: list[int], space: int) -> list[tuple[int, int]]:
    """Return first and last frame, exclusive, of each word of a path, one class a frame."""
    spans, start, end = [], None, 0
    for frame, symbol in enumerate([*symbols, space]):
        if symbol == space and start is not None:
            spans.append((start, end))
            start = None
        elif symbol not in (0, space):
            start, end = frame if start is None else start, frame + 1
    return spans


class WordTest(unittest.TestCase):
    def setUp(self) -> None:
        self.encoder = CTCCharTextEncoder("abc ")

    def log_probs(self, path: str) -> torch.Tensor:
        """Give each frame's character in `path` the probability 0.6, `^` is the blank."""
        log_probs = torch.full((len(path), 5), 0.1)
        for frame, character in enumerate(path):
            log_probs[frame, self.encoder.alphabet.index(character)] = 0.6
        return log_probs.log()

    def test_frames_and_seconds(self) -> None:
        log_probs = self.log_probs("^^aa^b^ ^^c^cc^")
        spans = align(log_probs, "ab cc", self.encoder)
        self.assertEqual([span[:3] for span in spans], [("ab", 2, 6), ("cc", 10, 14)])
        placed = words(torch.nn.functional.pad(log_probs, (0, 0, 0, 9)), 15, "ab cc", self.encoder, 0.02)
        for word, (text, start, end) in zip(placed, (("ab", 0.04, 0.12), ("cc", 0.2, 0.28)), strict=True):
            self.assertEqual(word.word, text)
            self.assertAlmostEqual(word.start, start)
            self.assertAlmostEqual(word.end, end)
            self.assertAlmostEqual(word.confidence, 0.6, places=6)

    def test_without_spaces_every_character_with_its_marks_is_a_word(self) -> None:
        self.encoder = CTCCharTextEncoder("กนำ\u0e49")
        spans = align(self.log_probs("^กน\u0e49^ำ^กก^"), "กน\u0e49ำก", self.encoder)
        self.assertEqual([span[:3] for span in spans], [("ก", 1, 2), ("น\u0e49ำ", 2, 6), ("ก", 7, 9)])

    def test_times_are_monotone_and_inside(self) -> None:
        for seed in range(10):
            log_probs = random_log_probs((60, 5), seed)
            placed = words(log_probs, 50, " ab  c abc b ", self.encoder, 0.01)
            self.assertEqual([word.word for word in placed], ["ab", "c", "abc", "b"])
            times = [time for word in placed for time in (word.start, word.end)]
            self.assertEqual(times, sorted(times))
            self.assertTrue(all(0 <= time <= 0.5 for time in times))
            self.assertTrue(all(0 <= word.confidence <= 1 for word in placed))

    def test_nothing_to_place(self) -> None:
        for text in ("", " ", "  "):
            self.assertEqual(words(self.log_probs("^^"), 2, text, self.encoder, 0.01), [])
        self.assertEqual(words(self.log_probs("^"), 0, "", self.encoder, 0.01), [])

    def test_what_cannot_be(self) -> None:
        with self.assertRaisesRegex(AlignmentError, "at least 3 are needed"):
            align(self.log_probs("aa"), "aa", self.encoder)
        impossible = self.log_probs("^^^^")
        impossible[:, 1] = -torch.inf
        with self.assertRaisesRegex(AlignmentError, "probability 0"):
            align(impossible, "a", self.encoder)


if __name__ == "__main__":
    unittest.main()
