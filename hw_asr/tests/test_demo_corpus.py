"""The corpus that ships with the project: readable, honest in its splits, and what its script makes."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile

from scripts.demo_corpus import make
from scripts.demo_corpus.grammar import MAX_WORDS, MIN_WORDS, Grammar, command_of
from scripts.demo_corpus.speakers import VARIANTS, draw_speakers

CORPUS = Path(__file__).resolve().parents[2] / "demo" / "corpus"
SPLITS = ("train", "dev", "test")


def read_manifest(split: str, directory: Path = CORPUS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


class ShippedCorpusTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.entries = {split: read_manifest(split) for split in SPLITS}

    def test_sizes(self) -> None:
        self.assertEqual([len(self.entries[split]) for split in SPLITS], [2600, 200, 300])
        files = [path for path in CORPUS.rglob("*") if path.is_file()]
        self.assertLess(sum(path.stat().st_size for path in files), 12e6)
        listed = {CORPUS / entry["path"] for split in SPLITS for entry in self.entries[split]}
        self.assertEqual(listed, {path for path in files if path.suffix == ".opus"})

    def test_splits_share_no_sentence_speaker_or_voice(self) -> None:
        def parts(entry: dict[str, Any]) -> tuple[str, str, str]:
            return command_of(entry["text"]), entry["speaker"], entry["speaker"].split("-")[0]

        for kind in range(3):
            sets = [{parts(entry)[kind] for entry in self.entries[split]} for split in SPLITS]
            self.assertEqual(len(set.union(*sets)), sum(map(len, sets)))

    def test_held_out_words_occur_in_training(self) -> None:
        counts = Counter(word for entry in self.entries["train"] for word in entry["text"].split())
        for split in ("dev", "test"):
            rare = {word for entry in self.entries[split] for word in entry["text"].split() if counts[word] < 4}
            self.assertEqual(rare, set())

    def test_texts_are_normalised(self) -> None:
        for split in SPLITS:
            for entry in self.entries[split]:
                self.assertRegex(entry["text"], r"^[a-z]+( [a-z]+){2,6}$")

    def test_headers_tell_the_durations(self) -> None:
        for split in SPLITS:
            for entry in self.entries[split]:
                info = soundfile.info(CORPUS / entry["path"])
                self.assertEqual((info.samplerate, info.channels, info.subtype), (16000, 1, "OPUS"), entry["path"])
                self.assertAlmostEqual(info.duration, entry["duration"], delta=0.001)

    def test_recordings_decode_to_trimmed_speech(self) -> None:
        for entry in (entry for split in SPLITS for entry in self.entries[split]):
            samples, sample_rate = soundfile.read(CORPUS / entry["path"])
            self.assertAlmostEqual(len(samples) / sample_rate, entry["duration"], delta=0.001)
            self.assertTrue(0.15 < np.abs(samples).max() < 1.0, entry["path"])
            loud = np.flatnonzero(np.abs(samples) > 0.03 * np.abs(samples).max()) / sample_rate
            self.assertTrue(0.05 < loud[0] < 0.3, entry["path"])
            self.assertTrue(0.05 < entry["duration"] - loud[-1] < 0.4, entry["path"])


class MakeTest(unittest.TestCase):
    def test_the_plan_is_what_is_shipped(self) -> None:
        planned = make.plan(seed=1)
        for split in SPLITS:
            shipped = [(entry["path"], entry["text"], entry["speaker"]) for entry in read_manifest(split)]
            self.assertEqual([(line.path, line.text, line.speaker.id) for line in planned[split]], shipped)

    def test_another_seed_makes_another_plan(self) -> None:
        self.assertNotEqual(make.plan(seed=1)["test"], make.plan(seed=2)["test"])

    def test_sentences_keep_their_length(self) -> None:
        grammar = Grammar(3)
        for _ in range(1000):
            self.assertTrue(MIN_WORDS <= len(grammar.sentence().split()) <= MAX_WORDS)

    def test_please_does_not_make_a_sentence_new(self) -> None:
        for sentence in ("please call anna at ten", "call anna at ten please"):
            self.assertEqual(make.split_of(sentence), make.split_of("call anna at ten"))

    def test_voices_are_drawn_evenly(self) -> None:
        speakers = draw_speakers("train", 60, random.Random(0))
        self.assertEqual(len({speaker.id for speaker in speakers}), 60)
        self.assertEqual({*Counter(speaker.variant for speaker in speakers).values()}, {60 // len(VARIANTS["train"])})

    def test_trim_leaves_the_margin(self) -> None:
        for lead, tail in ((0, 0), (500, 9000), (9000, 10)):
            samples = make.trim(np.concatenate([np.zeros(lead), np.ones(800), np.full(tail, 1e-4)]))
            self.assertEqual(len(samples), 800 + 2 * 1600)
            self.assertEqual(np.flatnonzero(samples == 1)[0], 1600)

    @unittest.skipUnless(shutil.which("espeak-ng"), "espeak-ng is not installed")
    def test_makes_the_same_speech_twice(self) -> None:
        with (
            tempfile.TemporaryDirectory() as directory,
            mock.patch.object(make, "SIZES", {"train": (6, 3), "dev": (2, 1), "test": (2, 2)}),
        ):
            for name in ("one", "two"):
                make.make(Path(directory, name), seed=5, jobs=2)
            for split in SPLITS:
                entries = read_manifest(split, Path(directory, "one"))
                self.assertEqual(entries, read_manifest(split, Path(directory, "two")))
                for entry in entries:
                    one, two = (soundfile.read(Path(directory, name, entry["path"]))[0] for name in ("one", "two"))
                    np.testing.assert_array_equal(one, two)
                    self.assertAlmostEqual(len(one) / make.SAMPLE_RATE, entry["duration"], delta=0.001)


if __name__ == "__main__":
    unittest.main()
