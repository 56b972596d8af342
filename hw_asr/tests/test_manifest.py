"""Manifests: every form gives the same utterances, every bad entry costs itself only, every filter is counted."""

import csv
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from hw_asr.datasets.manifest import DataError, parse_objects, read_objects, select, split_alignable
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Utterance

ENTRIES = [
    {"path": "a/1.wav", "text": "Hello, wörld", "duration": 1.5, "speaker": "x"},
    {"path": "/b/2.wav", "text": 'with "quotes",\nand a line', "duration": 2.0, "speaker": "y"},
]


def utterance(name: str, text: str | None = "text", duration: float = 1.0) -> Utterance:
    return Utterance(name, name, text, duration)


class TestReading(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def written(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def test_all_forms_are_the_same(self) -> None:
        as_json = self.written("m.json", json.dumps(ENTRIES, indent=1))
        as_lines = self.written("m.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, ENTRIES)) + "\r\n")
        paths = [as_json, as_lines]
        for name, delimiter in (("m.csv", ","), ("m.tsv", "\t")):
            with (self.directory / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(ENTRIES[0]), delimiter=delimiter)
                writer.writeheader()
                writer.writerows(ENTRIES)
            paths.append(self.directory / name)
        for path in paths:
            with self.subTest(path.name):
                utterances, malformed = parse_objects(read_objects(path), self.directory, path.name)
                self.assertEqual(malformed, 0)
                first = Utterance("a/1.wav", str(self.directory / "a/1.wav"), "Hello, wörld", 1.5, "x")
                self.assertEqual(utterances[0], first)
                self.assertEqual(utterances[1].audio_path, "/b/2.wav")
                self.assertEqual(utterances[1].text, ENTRIES[1]["text"])

    def test_other_peoples_keys(self) -> None:
        objects = [{"audio_filepath": "x.wav", "audio_len": "3", "id": 7}, {"audio_path": "y.wav", "sentence": "t"}]
        utterances, _ = parse_objects(objects, Path("d"), "")
        self.assertEqual(utterances[0], Utterance("7", "d/x.wav", None, 3.0))
        self.assertEqual(utterances[1], Utterance("y.wav", "d/y.wav", "t", 0.0))

    def test_bad_entries_are_logged_and_counted(self) -> None:
        bad = [{}, {"path": 3}, {"path": ""}, "x", None, {"path": "p", "text": 1}, {"path": "p", "duration": "long"}]
        bad += [{"path": "p", "duration": -1}, {"path": "p", "duration": float("nan")}]
        with self.assertLogs("hw_asr", "WARNING") as logs:
            utterances, malformed = parse_objects([*bad, *ENTRIES], Path(), "here.json")
        self.assertEqual((len(utterances), malformed), (2, len(bad)))
        self.assertIn("here.json: entry 1: has no path", logs.output[0])

    def test_bad_files_are_errors(self) -> None:
        for content, words in (
            (b"[{]", "not JSON"),
            (b'{"path": "a"}\n{"path"', ":2: not JSON"),
            (b"\xff\xfe", "UTF-8"),
        ):
            path = self.written("m.json", content)
            with self.assertRaisesRegex(DataError, f"m.json.*{words}"):
                read_objects(path)
        with self.assertRaisesRegex(DataError, "gone.json"):
            read_objects(self.directory / "gone.json")


class TestSelecting(unittest.TestCase):
    def setUp(self) -> None:
        self.encoder = CTCCharTextEncoder()

    def select(self, utterances: list[Utterance], **filters: float) -> tuple[list[str], dict[str, int]]:
        found, dropped = select(utterances, self.encoder.normalize, "here", **filters)
        return [each.id for each in found], dropped

    def test_texts_are_normalised(self) -> None:
        found, _ = select([utterance("a", "  HELLO,\nWörld! "), utterance("b", None)], self.encoder.normalize, "")
        self.assertEqual([each.text for each in found], ["hello world", None])

    def test_filters_and_their_counts(self) -> None:
        utterances = [utterance("long", duration=10.1), utterance("fits", "abcd", 10.0), utterance("wordy", "abcde")]
        ids, dropped = self.select(utterances, max_audio_length=10.0, max_text_length=4)
        self.assertEqual(ids, ["fits"])
        self.assertEqual(dropped, {"longer than 10 s": 1, "text longer than 4 characters": 1})

    def test_doubles_and_foreign_texts_cost_a_line_and_a_count(self) -> None:
        utterances = [
            utterance("a"),
            utterance("a", "b"),
            utterance("b", "привет"),
            utterance("c", ""),
            utterance("d", None),
        ]
        with self.assertLogs("hw_asr", "WARNING") as logs:
            ids, dropped = self.select(utterances)
        self.assertEqual(ids, ["a", "c", "d"])
        self.assertEqual(dropped, {"id occurs twice": 1, "no character of the alphabet in the text": 1})
        self.assertEqual(len(logs.output), 2)

    def test_the_limit_is_a_sample_in_order(self) -> None:
        utterances = [utterance(f"{index:03}") for index in range(100)]
        ids, dropped = self.select(utterances, limit=10)
        self.assertEqual(ids, sorted(ids))
        self.assertEqual((len(ids), dropped), (10, {"over the limit": 90}))
        self.assertEqual(self.select(utterances, limit=10)[0], ids)
        self.assertGreater(int(ids[-1]), 50)
        self.assertEqual(len(self.select(utterances, limit=1000)[0]), 100)

    def test_nothing_left_is_an_error_with_the_reasons(self) -> None:
        with self.assertRaisesRegex(DataError, "here: no utterance is left: 2 longer than 1 s"):
            self.select([utterance("a", duration=2.0), utterance("b", duration=3.0)], max_audio_length=1.0)
        with self.assertRaisesRegex(DataError, "it is empty"):
            self.select([])

    def test_a_hundred_thousand(self) -> None:
        utterances = [utterance(f"{index}", "SOME TEXT", index / 10_000) for index in range(100_000)]
        ids, dropped = self.select(utterances, max_audio_length=5.0, limit=1000)
        self.assertEqual((len(ids), sum(dropped.values())), (1000, 99_000))


class TestAlignability(unittest.TestCase):
    def test_against_ctc_loss(self) -> None:
        encoder, random = CTCCharTextEncoder("ab"), np.random.default_rng(0)
        texts = ["".join(random.choice(list("ab"), size)) for size in random.integers(0, 7, 100)]
        utterances = [utterance(str(index), text, float(random.integers(1, 9))) for index, text in enumerate(texts)]
        kept, dropped = split_alignable(utterances, encoder, int)
        for each in utterances:
            frames, targets = int(each.duration), torch.tensor([encoder.encode(each.text or "")])
            loss = torch.nn.functional.ctc_loss(
                torch.zeros(frames, 1, 3).log_softmax(-1), targets, [frames], [targets.shape[1]], reduction="sum"
            )
            self.assertEqual(bool(torch.isfinite(loss)), each in kept, each)
        self.assertEqual(dropped["too short for its text"], len(utterances) - len(kept))

    def test_other_reasons(self) -> None:
        utterances = [utterance("a", None), utterance("b", "a", 0.0), utterance("c", "a")]
        kept, dropped = split_alignable(utterances, CTCCharTextEncoder(), lambda seconds: 100)
        self.assertEqual([each.id for each in kept], ["c"])
        self.assertEqual(dropped, {"no text": 1, "recording cannot be opened": 1})


if __name__ == "__main__":
    unittest.main()
