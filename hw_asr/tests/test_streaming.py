"""Live recognition against the recognition of the whole recording, step by step and by brute force."""

from __future__ import annotations

import math
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hw_asr
from hw_asr.decoders.alignment import words
from hw_asr.experiment.network import Network
from hw_asr.recognition.loading import make_decoders
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.recognition.results import Result
from hw_asr.recognition.segments import QUIET, SPACE_BONUS_SECONDS, Limits
from hw_asr.recognition.speech_activity import CERTAIN, STEP_SECONDS
from hw_asr.recognition.waveform_model import TorchWaveformModel
from hw_asr.streaming.stream import Partial
from hw_asr.tests.streaming_case import random_cuts, random_network
from hw_asr.tests.test_causal_speech import expected_steps
from hw_asr.tests.test_streaming_network import whole

RATE = 8000
LIMITS = Limits(pause=0.15, shortest=0.4, longest=0.8)
ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-99 <s> -0.3
-1 </s>
-2 <unk>
-0.5 a -0.2
-0.6 ab -0.1
-0.9 ba

\\2-grams:
-0.2 <s> ab
-0.3 a ba
-0.1 ab a

\\end\\
"""


def sounds(generator: np.random.Generator, seconds: float) -> np.ndarray:
    """Return noise with bursts: some of it counts as speech."""
    samples = 1e-4 * generator.standard_normal(round(seconds * RATE))
    place = int(generator.integers(0, RATE // 4))
    while place < len(samples):
        length = int(generator.integers(500, 9000))
        samples[place : place + length] += 0.1 * generator.standard_normal(len(samples[place : place + length]))
        place += length + int(generator.integers(800, 12_000))
    return samples.astype(np.float32)


def recogniser_of(network: Network, decoders: dict[str, Any], skip_silence: bool) -> Recogniser:
    model = TorchWaveformModel(network, RATE, torch.device("cpu"))
    recogniser = Recogniser(model, decoders, Settings(chunk_seconds=2.0, skip_silence=skip_silence))
    recogniser._pieces.limits = LIMITS
    return recogniser


def cut_by_definition(log_probs: np.ndarray, frame: float, space: int | None) -> list[np.ndarray]:
    """Cut into segments: a frame ends one if the quiet frames up to it are long enough for its length."""
    pieces, start = [], 0
    for end in range(1, len(log_probs) + 1):
        segment = log_probs[start:end]
        quiet = segment[:, 0] >= QUIET
        pause = len(quiet) if quiet.all() else int(np.argmin(quiet[::-1]))
        characters = [best for best in segment.argmax(axis=1) if best]
        bonus = SPACE_BONUS_SECONDS if space is not None and characters and characters[-1] == space else 0.0
        length, needed = len(segment) * frame, LIMITS.pause
        ends = pause < len(segment) and pause * frame >= needed
        if length >= LIMITS.shortest:
            share = (LIMITS.longest - length) / (LIMITS.longest - LIMITS.shortest)
            ends = ends or pause * frame + bonus >= needed * share
        if ends:
            pieces.append(segment)
            start = end
    return [*pieces, log_probs[start:]] if start < len(log_probs) or not pieces else pieces


def silenced_by_definition(log_probs: np.ndarray, samples: np.ndarray, frame: float) -> np.ndarray:
    steps, result = expected_steps(samples, RATE), log_probs.copy()
    for index in range(len(result)):
        first, last = index * frame / STEP_SECONDS, (index + 1) * frame / STEP_SECONDS
        begin = min(math.floor(first + 1e-6), len(steps) - 1)
        if not steps[begin : max(begin + 1, math.ceil(last - 1e-6))].any():
            result[index], result[index, 0] = CERTAIN, 0.0
    return result


class StreamTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.lm = Path(folder.name) / "lm.arpa"
        cls.lm.write_text(ARPA)

    def decoders(self, network: Network, number: int) -> dict[str, Any]:
        """Return one or several decoders: with and without language model and hotwords."""
        model = {"language_model": str(self.lm), "alpha": 0.5, "beta": 0.3, "unknown_word_offset": -1.0}
        specs: list[dict[str, Any]] = [
            {"argmax": {"type": "argmax"}},
            {"argmax": {"type": "argmax"}, "beam_search": {"type": "beam_search", "args": {"beam_size": 20}}},
            {"beam_search": {"type": "beam_search", "args": {"beam_size": 8, "hotwords": {"ab": 1.0}}}},
            {"lm_beam_search": {"type": "lm_beam_search", "args": {"beam_size": 30, **model}}},
            {"lm_beam_search": {"type": "lm_beam_search", "args": {"beam_size": 5, **model, "hotwords": ["b a"]}}},
        ]  # fmt: skip
        return make_decoders(specs[number % len(specs)], network.text_encoder)

    def live(self, recogniser: Recogniser, samples: np.ndarray, cuts: list[int]) -> tuple[Result, list[Partial]]:
        """Recognise piece by piece, checking what every partial result promises."""
        stream, partials = recogniser.stream(), []
        for piece in np.split(samples, cuts):
            partial = stream.accept(piece)
            if partials:
                self.assertTrue(partial.stable.startswith(partials[-1].stable), (partials[-1], partial))
            partials.append(partial)
        result = stream.finish()
        for partial in partials:
            self.assertTrue(result.text.startswith(partial.stable), (partial, result.text))
        segments = [segment for partial in partials for segment in partial.segments]
        self.assertEqual(
            [(each.text, each.start, each.log_prob) for each in segments],
            [(each.text, each.start, each.log_prob) for each in result.segments[: len(segments)]],
        )
        return result, partials

    def assert_equal_results(self, found: Result, expected: Result) -> None:
        self.assertEqual(found.text, expected.text)
        self.assertEqual([each.text for each in found.segments], [each.text for each in expected.segments])
        self.assertEqual([each.word for each in found.words], [each.word for each in expected.words])
        for one, other in zip(found.words, expected.words, strict=True):
            self.assertEqual((one.start, one.end), (other.start, other.end))
            self.assertAlmostEqual(one.confidence, other.confidence, delta=1e-6)
        self.assertEqual(found.by_decoder.keys(), expected.by_decoder.keys())
        for name, alternatives in expected.by_decoder.items():
            self.assertEqual(found.by_decoder[name][0].text, alternatives[0].text)
            self.assertEqual(len(found.by_decoder[name]), len(alternatives))
            for one, other in zip(found.by_decoder[name], alternatives, strict=True):
                tolerance = max(1e-4, 1e-6 * abs(other.log_prob))  # float32 sums of a thousand frames differ by more
                self.assertAlmostEqual(one.log_prob, other.log_prob, delta=tolerance)
                self.assertAlmostEqual(one.score, other.score, delta=tolerance)
                self.assertAlmostEqual(math.exp(one.log_prob), math.exp(other.log_prob), delta=1e-6)

    def test_every_cut_gives_the_result_of_the_whole(self) -> None:
        generator, num_segments, num_characters = np.random.default_rng(0), 0, 0
        for number in range(50):
            network = random_network(generator, "ab " if number % 4 else "ab c"[: 2 + 2 * (number % 2)])
            decoders = self.decoders(network, number if " " in network.text_encoder.alphabet else number % 3)
            recogniser = recogniser_of(network, decoders, skip_silence=number % 3 > 0)
            samples = sounds(generator, float(generator.choice([0.003, 0.3, 1.5, 3.7])))
            expected = recogniser.transcribe(samples, RATE)
            with self.subTest(number):
                found, _ = self.live(recogniser, samples, random_cuts(generator, len(samples)))
                self.assert_equal_results(found, expected)
            num_segments += len(found.segments)
            num_characters += len(found.text)
        self.assertGreater(num_segments, 80)
        self.assertGreater(num_characters, 400)

    def test_the_whole_is_recognised_as_defined(self) -> None:
        generator = np.random.default_rng(1)
        for number in range(25):
            network = random_network(generator)
            decoders = self.decoders(network, number)
            skip_silence = number % 2 > 0
            recogniser = recogniser_of(network, decoders, skip_silence)
            samples = sounds(generator, float(generator.choice([0.02, 1.0, 3.5])))
            frame = recogniser._model.seconds_per_frame
            log_probs = whole(network, samples)
            if skip_silence:
                log_probs = silenced_by_definition(log_probs, samples, frame)
            pieces = cut_by_definition(log_probs, frame, list(network.text_encoder.alphabet).index(" "))
            result = recogniser.transcribe(samples, RATE)
            best = decoders[recogniser.best_decoder]
            texts, log_prob, expected_words, start = [], 0.0, [], 0
            for piece in pieces:
                (hypotheses,) = best([piece])
                texts.append(hypotheses[0].text.strip())
                log_prob += hypotheses[0].log_prob
                placed = words(piece.astype(np.float64), len(piece), texts[-1], network.text_encoder, frame)
                expected_words += [(word.word, word.start + start * frame) for word in placed]
                start += len(piece)
            with self.subTest(number):
                self.assertEqual(result.text, " ".join(filter(None, texts)))
                self.assertAlmostEqual(result.alternatives[0].log_prob, log_prob, delta=1e-4)
                self.assertEqual([word.word for word in result.words], [word for word, _ in expected_words])
                for word, (_, begin) in zip(result.words, expected_words, strict=True):
                    self.assertAlmostEqual(word.start, min(begin, result.duration), delta=frame + 1e-9)

    def test_later_samples_do_not_change_what_is_stable(self) -> None:
        generator, num_compared = np.random.default_rng(2), 0
        for number in range(12):
            network = random_network(generator)
            recogniser = recogniser_of(network, self.decoders(network, number), skip_silence=True)
            samples = sounds(generator, 5.0)
            place = int(generator.integers(4 * RATE, 5 * RATE))
            other = np.concatenate([samples[:place], sounds(generator, 1.0)])
            first, second = recogniser.stream(), recogniser.stream()
            self.assertEqual(first.accept(samples[:place]), second.accept(samples[:place]))
            stable = first.accept(samples[place:place]).stable
            texts = [recogniser.transcribe(each, RATE).text for each in (samples, other, samples[:place])]
            for text in texts:
                self.assertTrue(text.startswith(stable), (stable, text))
            num_compared += len(stable)
        self.assertGreater(num_compared, 60)

    def test_other_sample_rates_are_resampled(self) -> None:
        network = random_network(np.random.default_rng(4))
        recogniser = recogniser_of(network, self.decoders(network, 1), skip_silence=True)
        samples = sounds(np.random.default_rng(5), 3.0)
        stream = recogniser.stream(sample_rate=2 * RATE)
        for piece in np.array_split(samples, 40):
            stream.accept(piece)
        result, expected = stream.finish(), recogniser.transcribe(samples, 2 * RATE)
        self.assertAlmostEqual(result.duration, expected.duration, places=3)
        self.assertEqual(result.text, expected.text)

    def test_what_is_held_does_not_grow(self) -> None:
        network = random_network(np.random.default_rng(6))
        recogniser = recogniser_of(network, self.decoders(network, 3), skip_silence=True)
        stream, sizes = recogniser.stream(), []
        for index in range(60):
            stream.accept(sounds(np.random.default_rng(index % 3), 1.0))
            held = stream._segments
            work: Any = held._search._work  # type: ignore[attr-defined]
            sizes.append(sum(map(len, held._held)) + len(stream._waiting) + len(work.tree.nodes))
        self.assertLessEqual(max(sizes[20:]), max(sizes[:20]) + 20)

    def test_errors_say_what_to_do(self) -> None:
        network = random_network(np.random.default_rng(7))
        recogniser = recogniser_of(network, self.decoders(network, 0), skip_silence=True)
        stream = recogniser.stream()
        for samples in ([0.0] * 4, torch.zeros(4, requires_grad=True), memoryview(np.zeros(4, np.int16)), []):
            stream.accept(samples)  # type: ignore[arg-type]
        for wrong in (None, b"1234"):
            with self.assertRaisesRegex(hw_asr.Error, "expected an array of numbers, got (NoneType|bytes)"):
                stream.accept(wrong)  # type: ignore[arg-type]
        with self.assertRaisesRegex(hw_asr.Error, "one channel of shape"):
            stream.accept(np.zeros((4, 2), np.float32))
        with self.assertRaisesRegex(hw_asr.Error, "floats in"):
            stream.accept(np.array([np.nan], np.float32))
        self.assertEqual(stream.finish().text, "")
        with self.assertRaisesRegex(hw_asr.Error, "finished; open another"):
            stream.accept(np.zeros(4, np.float32))
        with self.assertRaisesRegex(hw_asr.Error, "sample_rate"):
            recogniser.stream(sample_rate=0)
        whole_only = recogniser_of(network, {"custom": lambda recordings: [[] for _ in recordings]}, True)
        with self.assertRaisesRegex(hw_asr.Error, "reads whole recordings only; use argmax, beam_search"):
            whole_only.stream()
        needs_all = random_network(np.random.default_rng(8), normalize="utterance")
        with self.assertRaisesRegex(hw_asr.Error, 'cannot recognise live audio: preprocessing.normalize "utterance"'):
            recogniser_of(needs_all, self.decoders(needs_all, 0), skip_silence=True).stream()


if __name__ == "__main__":
    unittest.main()
