"""Alignment of texts that need not be what is said: brute force, torchaudio's aligner, emissions with known words."""

from __future__ import annotations

import tracemalloc
import unicodedata
import unittest
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch

from hw_asr.alignment.result import Alignment
from hw_asr.alignment.search import align_text
from hw_asr.alignment.transcript import TranscriptError, read_transcript
from hw_asr.decoders.alignment import AlignmentError, align_with_gaps
from hw_asr.tests.test_alignment import word_spans
from hw_asr.tests.test_beam_search import random_log_probs
from hw_asr.tests.test_spectrograms import MISSING, torchaudio
from hw_asr.text.encoder import CTCCharTextEncoder

ENCODER = CTCCharTextEncoder()
SECONDS = 0.02


class Case:
    """Random scores of a small graph: three words over two characters."""

    def __init__(self, seed: int, num_frames: int) -> None:
        generator = np.random.default_rng(seed)
        self.words = [generator.integers(1, 3, size).tolist() for size in generator.integers(1, 3, 3)]
        self.labels = [label for word in self.words for label in word]
        self.scores = -generator.exponential(2.0, (num_frames, 4))
        self.costs = generator.exponential(1.0, 3)
        self.opening = float(generator.exponential(1.0))
        self.skips = np.full(len(self.labels) + 1, -1.0)
        self.starts = np.cumsum([0, *map(len, self.words)])
        self.skips[self.starts] = np.cumsum([0.0, *self.costs])

    def paths(self) -> Iterator[tuple[float, list[int]]]:
        """Yield every path with its score: the states of CTC, a gap may be followed by any later word."""
        last = 2 * len(self.labels)
        stack = [(0, 0.0, list[int]())]
        while stack:
            frame, score, path = stack.pop()
            if frame == len(self.scores):
                end = path[-1]
                if end == last - 1:
                    yield score, path
                elif end % 2 == 0 and end // 2 in self.starts:
                    left = self.skips[-1] - self.skips[end // 2]
                    yield score - (left + self.opening if end < last else 0.0), path
                continue
            for state, cost in self.next_states(path[-1] if path else -1):
                label = self.labels[state // 2] if state % 2 else (3 if state // 2 in self.starts else 0)
                stack.append((frame + 1, score + self.scores[frame, label] - cost, [*path, state]))

    def next_states(self, state: int) -> list[tuple[int, float]]:
        result = []
        if state >= 0:
            result.append((state, 0.0))
        if state < 2 * len(self.labels):
            result.append((state + 1, 0.0))
        is_label, place = state % 2 == 1 and state > 0, (state + 1) // 2
        if is_label and place < len(self.labels) and self.labels[place] != self.labels[place - 1]:
            result.append((state + 2, 0.0))
        gap = max(state, 0) // 2 if not is_label else -1
        if gap in self.starts:
            result += [(2 * start + 1, self.skips[start] - self.skips[gap] + self.opening)
                       for start in self.starts[:-1] if start > gap]  # fmt: skip
            if state < 0:
                result = [(0, 0.0), (1, 0.0), *result[1:]]
        return [(following, float(cost)) for following, cost in result]

    def score(self, path: list[int]) -> float:
        """Return the score of one path; fails when there is no such path."""
        return max(score for score, known in self.paths() if known == path)

    def search(self) -> list[int]:
        return align_with_gaps(self.scores, self.labels, self.skips, self.opening).tolist()


class SearchTest(unittest.TestCase):
    def test_best_of_all_paths(self) -> None:
        num_skipping = 0
        for seed in range(60):
            case = Case(seed, 1 + seed % 6)
            scores = {tuple(path): score for score, path in case.paths()}
            path = case.search()
            self.assertAlmostEqual(scores[tuple(path)], max(scores.values()), msg=str(seed))
            num_skipping += len({(state + 1) // 2 for state in path if state % 2}) < len(case.labels)
        self.assertGreater(num_skipping, 20)

    def test_blocks_and_beam_change_nothing(self) -> None:
        for seed in range(20):
            case = Case(seed, 6)
            path = case.search()
            for beam, size in ((0.0, 1), (1.0, 2), (float("inf"), 4)):
                with mock.patch.multiple("hw_asr.decoders.alignment", BEAM=beam, BLOCK_FRAMES=size):
                    self.assertEqual(case.search(), path, (seed, beam, size))

    def test_memory_does_not_grow_with_frames_times_characters(self) -> None:
        text = " ".join(["word", "after", "another"] * 600)
        log_probs = emissions(text)
        transcript = read_transcript(text, ENCODER)
        align_text(log_probs[:100], transcript, ENCODER, SECONDS)  # what compiles is not counted
        tracemalloc.start()
        alignment = align_text(log_probs, transcript, ENCODER, SECONDS)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertTrue(all(word.spoken for word in alignment.words))
        self.assertLess(peak, len(log_probs) * len(text) // 4)


def emissions(text: str, certainty: float = 0.98) -> np.ndarray:
    """Return log-probabilities (T, V) of a text: blank, character, blank, character, ..., pauses for spaces."""
    path = [0, 0]
    for character in text:
        path += [ENCODER.encode(character)[0], 0, *([0] * 4 if character == " " else [])]
    probabilities = np.full((len(path), len(ENCODER)), (1 - certainty) / (len(ENCODER) - 1))
    probabilities[np.arange(len(path)), path] = certainty
    return np.log(probabilities)


def spoken(said: str, text: str) -> tuple[list[bool | None], Alignment]:
    """Return which words of `text` are found in the emissions of `said`, and the alignment."""
    alignment = align_text(emissions(said), read_transcript(text, ENCODER), ENCODER, SECONDS)
    return [word.spoken for word in alignment.words], alignment


class DifferenceTest(unittest.TestCase):
    SAID = "turn the kitchen light on call my brother at noon what is the weather like in berlin"

    def frames_of(self, said: str, words: slice) -> tuple[float, float]:
        """Return the seconds of some words of the emissions of `said`."""
        parts = said.split()
        before = len(emissions(" ".join([*parts[: words.start], ""]))) if words.start else 2
        return before * SECONDS, (before + len(emissions(" ".join(parts[words]))) - 3) * SECONDS

    def test_the_whole_text(self) -> None:
        found, alignment = spoken(self.SAID, self.SAID)
        self.assertEqual(found, [True] * 17)
        self.assertEqual(alignment.extra_speech, ())
        for index, word in enumerate(alignment.words):
            start, end = self.frames_of(self.SAID, slice(index, index + 1))
            self.assertEqual((round(word.start or 0, 3), round(word.end or 0, 3)), (round(start, 3), round(end, 3)))
            self.assertEqual("".join(part.word for part in word.characters), word.word)
            self.assertAlmostEqual(word.confidence, 0.98)

    def test_speech_that_is_not_in_the_text(self) -> None:
        words = self.SAID.split()
        for left_out in (slice(0, 5), slice(5, 10), slice(10, 17), slice(2, 3), slice(16, 17)):
            text = " ".join(word for index, word in enumerate(words) if index not in range(17)[left_out])
            found, alignment = spoken(self.SAID, text)
            self.assertEqual(set(found), {True}, left_out)
            (extra,) = alignment.extra_speech
            self.assertEqual(extra.heard, " ".join(words[left_out]))
            self.assertEqual(extra.after_word, left_out.start)
            start, end = self.frames_of(self.SAID, left_out)
            self.assertAlmostEqual(extra.start, start)
            self.assertAlmostEqual(extra.end, end)

    def test_words_that_are_not_spoken(self) -> None:
        words = self.SAID.split()
        for place, inserted in ((0, "good morning"), (5, "please"), (10, "add eggs and cheese"), (17, "thanks a lot")):
            text = [*words[:place], *inserted.split(), *words[place:]]
            found, alignment = spoken(self.SAID, " ".join(text))
            number = len(inserted.split())
            self.assertEqual(found, [True] * place + [False] * number + [True] * (17 - place), inserted)
            self.assertEqual(alignment.extra_speech, ())
            self.assertEqual(alignment.words[place].to_dict()["start"], None)

    def test_other_words_are_spoken(self) -> None:
        words = self.SAID.split()
        text = [*words[:5], *["play", "some", "jazz"], *words[10:]]
        found, alignment = spoken(self.SAID, " ".join(text))
        self.assertEqual(found, [True] * 5 + [False] * 3 + [True] * 7)
        self.assertEqual([extra.heard for extra in alignment.extra_speech], ["call my brother at noon"])

    def test_nothing_is_spoken(self) -> None:
        silence = np.log(np.full((50, 28), 1e-6))
        silence[:, 0] = 0.0
        for frames in (silence, silence[:0], silence[:1]):
            alignment = align_text(frames, read_transcript("not here", ENCODER), ENCODER, SECONDS)
            self.assertEqual([word.spoken for word in alignment.words], [False, False])

    def test_an_alphabet_without_a_space(self) -> None:
        encoder = CTCCharTextEncoder("abcd")
        path = [0, 1, 2, 2, 3, 0, 3]
        log_probs = np.log(np.where(np.arange(5) == np.array(path)[:, None], 1 - 4e-8, 1e-8))
        alignment = align_text(log_probs, read_transcript("ab cdc", encoder), encoder, 1.0)
        self.assertEqual([word.start for word in alignment.words], [1, 2, 4, None, 6])

    def test_characters_that_are_not_in_the_text_take_no_memory(self) -> None:
        small, large = CTCCharTextEncoder("abcd"), CTCCharTextEncoder("abcd" + "".join(map(chr, range(0x4E00, 0x5500))))
        text = "abcadbacbd" * 10
        for forced in (False, True):
            few = random_log_probs((400, len(small)), 1).numpy()
            many = np.concatenate([few, np.full((400, len(large) - len(small)), -60, np.float32)], axis=1)
            expected = align_text(few, read_transcript(text, small), small, SECONDS, forced=forced)
            tracemalloc.start()
            alignment = align_text(many, read_transcript(text, large), large, SECONDS, forced=forced)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertEqual(alignment, expected)
            self.assertLess(peak, many.nbytes // 2)

    @unittest.skipIf(MISSING, MISSING)
    def test_forced_spans_are_those_of_torchaudio(self) -> None:
        text = "a bc da b"
        for seed in range(20):
            log_probs = random_log_probs((40, 28), seed)
            symbols, _ = torchaudio.functional.forced_align(log_probs[None], torch.tensor([ENCODER.encode(text)]))
            frames = log_probs.double().numpy()
            alignment = align_text(frames, read_transcript(text, ENCODER), ENCODER, 1.0, forced=True)
            expected = word_spans(symbols[0].tolist(), ENCODER.encode(" ")[0])
            self.assertEqual([(word.start, word.end) for word in alignment.words], expected)
        with self.assertRaisesRegex(AlignmentError, "9 characters cannot be aligned to 4 frames"):
            align_text(frames[:4], read_transcript(text, ENCODER), ENCODER, 1.0, forced=True)


class TranscriptTest(unittest.TestCase):
    def test_words_keep_their_spelling(self) -> None:
        transcript = read_transcript("“Well-known”, he said — Café 42!\n", ENCODER)
        self.assertEqual([word.spelling for word in transcript.words],
                         ["“Well-known”,", "he", "said —", "Café", "42!"])  # fmt: skip
        self.assertEqual([word.normalized for word in transcript.words], ["well known", "he", "said", "cafe", ""])
        self.assertIn("2 characters of the text are not in the model's alphabet", transcript.warning or "")
        self.assertIn("'2' (1), '4' (1)", transcript.warning or "")
        self.assertIsNone(read_transcript("it is, is it?", ENCODER).warning)
        said = "well known he said cafe"
        alignment = align_text(emissions(said), transcript, ENCODER, SECONDS)
        self.assertEqual([word.spoken for word in alignment.words], [True, True, True, True, None])

    def test_letters_with_their_accents_apart(self) -> None:
        transcript = read_transcript(unicodedata.normalize("NFD", "Café"), ENCODER)
        self.assertEqual(("Café", "cafe"), transcript.words[0])
        self.assertIsNone(transcript.warning)

    def test_texts_that_cannot_be_aligned(self) -> None:
        for text, reason in (("", "the text is empty"), (" \n", "the text is empty"), ("42 Привет", "no character")):
            with self.assertRaisesRegex(TranscriptError, reason):
                read_transcript(text, ENCODER)


if __name__ == "__main__":
    unittest.main()
