"""Tuning of decoding: the search finds what brute force finds, the cache keeps what it was given, the command works."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_asr.commands.dev_emissions import dev_split
from hw_asr.config import ConfigError, parse
from hw_asr.lm.tuning.cached_emissions import CachedEmissions, CachedEmissionsError
from hw_asr.lm.tuning.search import SearchSpace, Setting, Trial, evaluate, overlay, table, tune
from hw_asr.tests.transcribe_case import CONFIG
from hw_asr.types import CTCDecoder, Hypothesis

ALPHABET = ("^", *"abcdefgh ")
WORDS = ["bad", "bed", "cab", "dad", "fed", "had", "head", "egg"]


def made_emissions(num_utterances: int = 12, noise: float = 2.0) -> CachedEmissions:
    """Frames of random sentences: each character twice, then a blank, under noise."""
    generator = np.random.default_rng(0)
    rows, references = [], []
    for _ in range(num_utterances):
        text = " ".join(generator.choice(WORDS, 4))
        path = [symbol for character in text for symbol in (ALPHABET.index(character),) * 2 + (0,)]
        logits = generator.normal(0, noise, (len(path), len(ALPHABET)))
        logits[np.arange(len(path)), path] += 4
        rows.append(torch.tensor(logits).log_softmax(-1).numpy().astype(np.float32))
        references.append(text)
    return CachedEmissions(rows, references, ALPHABET, ("val", "dev-clean"), "run/best 1 2")


class _Pretender:
    """A decoder whose errors are a known function of its setting: so many words of each reference are wrong."""

    name = "lm_beam_search"

    def __init__(self, setting: Setting, references: dict[int, str]) -> None:
        self._references = references
        off = 3 * abs(setting.alpha - 0.7) + 0.5 * abs(setting.beta - 3.1)
        off += 0.3 * (setting.unknown_word_offset != -15) + 40 / setting.beam_size
        self._rate = min(off / 10, 1.0)

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        texts = [self._references[round(float(row[0, 0]))] for row in log_probs]
        wrong = [text[: round(len(text) * (1 - self._rate))] for text in texts]
        return [[Hypothesis(text, 0.0, 0.0)] for text in wrong]


class TestSearch(unittest.TestCase):
    def setUp(self) -> None:
        references = {index: " ".join("abcdefgh"[index] * 400) for index in range(4)}
        rows = [np.full((2, len(ALPHABET)), index, np.float32) for index in references]
        self.emissions = CachedEmissions(rows, list(references.values()), ALPHABET, ("val",))
        self.made: list[Setting] = []

        def make(setting: Setting) -> CTCDecoder:
            self.made.append(setting)
            return _Pretender(setting, references)

        self.make = make

    def test_coarse_to_fine_comes_close_to_the_optimum(self) -> None:
        alphas, betas = [0.0, 0.4, 0.8, 1.2], [-2.0, 0.0, 2.0]  # the best beta lies outside
        space = SearchSpace(alphas, betas, [-20.0, -15.0, -10.0], [400, 10, 100, 200], num_refinements=4)
        found = tune(self.emissions, self.make, Setting(0, 0, -10.0, 50), space)
        best = found.best.setting
        self.assertAlmostEqual(0.7, best.alpha, delta=0.051)
        self.assertAlmostEqual(3.1, best.beta, delta=0.26)
        self.assertEqual(-15.0, best.unknown_word_offset)
        self.assertEqual(400, best.beam_size)
        self.assertEqual(len(set(self.made)), len(self.made), "a setting was tried twice")
        self.assertEqual([10, 100, 200, 400], [trial.setting.beam_size for trial in found.beams])
        self.assertTrue(all(setting.alpha >= 0 for setting in self.made))

    def test_the_smallest_sufficient_width_is_chosen(self) -> None:
        space = SearchSpace([0.7], [3.0], [], [10, 100, 200, 400], num_refinements=2, tolerance=0.035)
        found = tune(self.emissions, self.make, Setting(0, 0, -15.0, 50), space)
        self.assertEqual((0.7, 3.0, -15.0, 100), tuple(found.best.setting))
        self.assertIn("0.7", table(found))

    def test_overlay(self) -> None:
        made = overlay(Setting(0.5, 2.0, -10.0, 64), Path("lms/lm.arpa"))
        arguments = {"language_model": "lms/lm.arpa", "alpha": 0.5, "beta": 2.0, "unknown_word_offset": -10.0}
        self.assertEqual(
            [
                {"type": "argmax"},
                {"type": "beam_search", "args": {"beam_size": 64}},
                {"type": "lm_beam_search", "args": {**arguments, "beam_size": 64}},
            ],
            made["decoders"],
        )

    def test_rates_are_those_of_the_corpus(self) -> None:
        def decoder(log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
            texts = {2: "a b c d", 1: ""}
            return [[Hypothesis(texts[int(length)], 0.0, 0.0)] for length in lengths]

        rows = [np.zeros((length, 3), np.float32) for length in (2, 1)]
        emissions = CachedEmissions(rows, ["a x c d", "b"], ("^", "a", "b"), ("val",))
        trial = evaluate(emissions, decoder, Setting(1, 1, 0, 1))  # type: ignore[arg-type]
        self.assertEqual((2 / 5, 2 / 8, (1 / 4 + 1) / 2), (trial.wer, trial.cer, trial.mean_wer))
        self.assertIsInstance(trial, Trial)


class TestCache(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "val.npz")

    def test_round_trip(self) -> None:
        made = made_emissions(5)
        made.save(self.path)
        read = CachedEmissions.load(self.path)
        for before, after in zip(made.log_probs, read.log_probs, strict=True):
            np.testing.assert_array_equal(before, after)
        self.assertEqual(
            (made.references, made.alphabet, made.origin, made.checkpoint),
            (read.references, read.alphabet, read.origin, read.checkpoint),
        )

    def test_batches_hold_everything_once_with_its_own_length(self) -> None:
        made = made_emissions(7)
        seen = []
        for log_probs, lengths, references in made.batches(3):
            for row, length, reference in zip(log_probs, lengths.tolist(), references, strict=True):
                index = made.references.index(reference)
                np.testing.assert_array_equal(made.log_probs[index], row[:length].numpy())
                seen.append(index)
        self.assertEqual(list(range(7)), sorted(seen))

    def test_head_is_a_fixed_sample(self) -> None:
        made = made_emissions(9)
        self.assertEqual(made.head(4).references, made.head(4).references)
        self.assertEqual(4, len(made.head(4).log_probs))
        self.assertEqual(made.references, made.head(100).references)

    def test_sizes_that_lie_are_refused(self) -> None:
        made_emissions(3).save(self.path)
        with np.load(self.path) as archive:
            whole = dict(archive)
        CachedEmissions.load(self.path)
        lengths, log_probs = whole["lengths"], whole["log_probs"]
        wrong = [("lengths", value) for value in (lengths + 1, lengths.astype(np.float64), -lengths, lengths[:, None])]
        wrong += [("log_probs", value) for value in (log_probs[:, :-1], log_probs[0], log_probs * np.nan, log_probs + 9,
                                                     log_probs.astype(np.float64))]  # fmt: skip
        wrong += [("references", whole["references"][:-1]), ("references", np.arange(3))]
        wrong += [("alphabet", whole["alphabet"][:-1]), ("origin", np.array(5)), ("checkpoint", np.array(["a", "b"]))]
        for name, value in wrong:
            np.savez(self.path, **{**whole, name: value})
            with self.subTest(name, value=value.shape), self.assertRaises(CachedEmissionsError):
                CachedEmissions.load(self.path)
        np.savez_compressed(self.path, **{**whole, "log_probs": np.zeros((10**6, len(ALPHABET)), np.float32)})
        with self.assertRaisesRegex(CachedEmissionsError, "larger than the file"):
            CachedEmissions.load(self.path)

    def test_other_files(self) -> None:
        self.path.write_bytes(b"PK no")
        with self.assertRaisesRegex(CachedEmissionsError, "not an .npz file"):
            CachedEmissions.load(self.path)
        np.savez(self.path, other=np.zeros(3))
        with self.assertRaisesRegex(CachedEmissionsError, "no log-probabilities of a split"):
            CachedEmissions.load(self.path)

    def test_forged_arrays(self) -> None:
        made_emissions(3).save(self.path)
        with np.load(self.path) as archive:
            arrays = dict(archive)
        changes: dict[str, np.ndarray] = {
            "log_probs": arrays["log_probs"][1:], "lengths": -arrays["lengths"], "references": arrays["references"][1:],
            "alphabet": arrays["alphabet"][1:], "checkpoint": np.zeros(3),
        }  # fmt: skip
        for name, value in changes.items():
            np.savez(self.path, **{**arrays, name: value})
            with (
                self.subTest(name),
                self.assertRaisesRegex(CachedEmissionsError, "no log-probabilities of a split"),
            ):
                CachedEmissions.load(self.path)
        np.savez_compressed(self.path, **arrays)
        with self.assertRaisesRegex(CachedEmissionsError, "larger than the file"):
            CachedEmissions.load(self.path)


class TestDevSplit(unittest.TestCase):
    def test_the_only_split_besides_train_and_test(self) -> None:
        split = {"batch_size": 1, "datasets": [{"type": "CustomAudioDataset", "args": {"data": []}}]}
        for names, expected in (
            (["train", "dev"], "dev"),
            (["train", "val", "test", "test-other"], "val"),
            (["train", "test"], None),
            (["train", "dev", "val"], None),
        ):
            config = parse({**CONFIG, "data": dict.fromkeys(names, split)})
            with self.subTest(names):
                if expected is None:
                    with self.assertRaisesRegex(ConfigError, "which split is the dev set.*give --split"):
                        dev_split(config)
                else:
                    self.assertEqual(dev_split(config), expected)


if __name__ == "__main__":
    unittest.main()
