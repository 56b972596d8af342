"""Manifests: equivalent formats, malformed entries, filters and their counts."""

import csv
import json
import logging
import os
import tempfile
import tracemalloc
import unittest
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from hw_asr.datasets.manifest import DataError, consume, parse_entries, select, split_alignable
from hw_asr.datasets.manifest_file import _Table, as_entries, read_manifest
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

    def test_all_formats_are_equivalent(self) -> None:
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
                utterances, left_out = parse_entries(read_manifest(path), self.directory, path.name)
                self.assertEqual(left_out, {})
                first = Utterance("a/1.wav", str(self.directory / "a/1.wav"), "Hello, wörld", 1.5, "x")
                self.assertEqual(utterances[0], first)
                self.assertEqual(utterances[1].audio_path, "/b/2.wav")
                self.assertEqual(utterances[1].text, ENTRIES[1]["text"])

    def test_alternative_keys(self) -> None:
        objects = [{"audio_filepath": "x.wav", "audio_len": "3", "id": 7}, {"audio_path": "y.wav", "sentence": "t"}]
        utterances, _ = parse_entries(as_entries(objects), Path("d"), "")
        self.assertEqual(utterances[0], Utterance("7", "d/x.wav", None, 3.0))
        self.assertEqual(utterances[1], Utterance("y.wav", "d/y.wav", "t", 0.0))
        empty = {"path": None, "audio_filepath": "x.wav", "text": None, "sentence": "t"}
        utterances, _ = parse_entries(as_entries([empty]), Path("d"), "")
        self.assertEqual(utterances[0], Utterance("x.wav", "d/x.wav", "t", 0.0))

    def test_bad_entries_are_logged_and_counted(self) -> None:
        bad = [{}, {"path": 3}, {"path": ""}, "x", None, {"path": "p", "text": 1}, {"path": "p", "duration": "long"}]
        bad += [{"path": "p", "duration": -1}, {"path": "p", "duration": float("nan")}, {"path": "p", "offset": -1}]
        bad += [{"path": "no\0"}, {"path": "\ud800.wav"}, {"path": "p", "text": "\udcff"}, {"path": "p", "id": []}]
        good = [{"path": f"{number}.wav"} for number in range(9 * len(bad))]
        with self.assertLogs("hw_asr", "WARNING") as logs:
            utterances, left_out = parse_entries(as_entries([*bad, *good]), Path(), "here.json")
        self.assertEqual((len(utterances), left_out), (len(good), {"entry malformed": len(bad)}))
        self.assertEqual(len(logs.output), len(bad))
        self.assertIn("here.json: entry 1: has no path", logs.output[0])
        with self.assertRaisesRegex(DataError, f"{len(bad)} of {10 * len(bad) - 1} .*a tenth.*entry 1: has no path"):
            parse_entries(as_entries([*bad, *good[1:]]), Path(), "here.json")

    def test_pieces_of_recordings(self) -> None:
        """NeMo's manifests: `offset` and `duration` name a piece; `duration` alone is the whole recording's length."""
        lines = [{"audio_filepath": "a.wav", "offset": offset, "duration": 2.5} for offset in (0, 2.5, 2.5)]
        lines += [{"audio_filepath": "a.wav", "duration": 9}, {"audio_filepath": "a.wav", "offset": None}]
        path = self.written("m.jsonl", "\n".join(map(json.dumps, lines)))
        utterances, _ = parse_entries(read_manifest(path), Path(), "m")
        self.assertEqual([utterance.offset for utterance in utterances], [0.0, 2.5, 2.5, None, None])
        self.assertEqual(len({utterance.id for utterance in utterances}), 3)
        kept, dropped = select(utterances, str, "m", max_audio_length=3.0)
        self.assertEqual([(each.offset, each.duration) for each in kept], [(0.0, 2.5), (2.5, 2.5), (None, 0.0)])
        self.assertEqual(dropped, {"id occurs twice": 1, "longer than 3 s": 1})
        with self.assertRaisesRegex(DataError, "entry 1: duration: expected more than 0 s of the piece"):
            parse_entries(as_entries([{"path": "a.wav", "offset": 0.5, "duration": 0}]), Path(), "m")

    def rows(self, name: str, content: str | bytes) -> tuple[list[tuple[str, str | None]], dict[str, int]]:
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)
        utterances, left_out = parse_entries(read_manifest(self.written(name, content)), Path(), name)
        return [(utterance.audio_path, utterance.text) for utterance in utterances], left_out

    def test_a_bad_row_of_a_table_affects_no_other(self) -> None:
        good = [(f"{number}.wav", f"text {number}") for number in range(40)]
        long = "the code " * 30_000
        cases = {
            "an unmatched quote": ('x.wav,"when is', []),
            "two unmatched quotes": ('x.wav,"when is\ny.wav,a\nz.wav,b"', [("y.wav", "a"), ("z.wav", 'b"')]),
            "a comma too many": ("x.wav,hello, you", []),
            "a comma too few": ("x.wav", []),
            "a NUL": ("x\0.wav,hello", []),
            "a huge value": (f"x.wav,{long}", [("x.wav", long)]),
            "a quoted row": ('x.wav,"hello, ""you""\nand me"', [("x.wav", 'hello, "you"\nand me')]),
            "a blank after the comma": ('x.wav, "hello, you"', [("x.wav", "hello, you")]),
            "an empty line": ("", []),
        }
        for name, (line, expected) in cases.items():
            lines = [",".join(row) for row in good]
            text = "\n".join(["path,text", *lines[:20], line, *lines[20:]])
            with self.subTest(name):
                rows, left_out = self.rows("m.csv", text)
                self.assertEqual(rows, [*good[:20], *expected, *good[20:]])
                is_malformed = 'x.wav,"when' in line or (line and not expected)
                self.assertEqual(left_out, {"entry malformed": 1} if is_malformed else {})

    def test_quotes_in_a_tsv_file_are_characters_where_they_do_not_match(self) -> None:
        texts = ['"when is', 'he said "no', '"yes" he said', '"quoted ""well"""', 'five"', '"over\ntwo lines"']
        rows, left_out = self.rows(
            "m.tsv", "path\tsentence\n" + "\n".join(f"{n}.wav\t{t}" for n, t in enumerate(texts))
        )
        expected = [*texts[:3], 'quoted "well"', 'five"', "over\ntwo lines"]
        self.assertEqual(rows, [(f"{number}.wav", text) for number, text in enumerate(expected)])
        self.assertEqual(left_out, {})

    def test_the_lines_before_a_row_are_not_read_again(self) -> None:
        class Counted(list[str]):
            num_iterated = 0

            def __iter__(self) -> Iterator[str]:
                for line in super().__iter__():
                    self.num_iterated += 1
                    yield line

        lines = Counted(["path,text\n", *['x.wav,"a\n', 'b"\n'] * 500])
        rows = list(_Table(lines, ["path", "text"], ",", True).rows(strip=False))
        self.assertEqual((lines.num_iterated, len(rows)), (0, 500))

    def test_headers(self) -> None:
        rows, _ = self.rows("m.csv", "\ufeff path , text\r\na.wav , hello \r\n")
        self.assertEqual(rows, [("a.wav", "hello")])
        for header, words in (("a.wav,hello", "path or audio_path"), ("path,text,text", "named text"), ("", "header")):
            with self.assertRaisesRegex(DataError, words):
                self.rows("m.csv", f"{header}\na.wav,hello,x\n")

    def test_an_empty_text_in_a_table_is_none(self) -> None:
        rows, _ = self.rows("m.csv", "path,text,speaker\na.wav,hello,\nb.wav,,ann\n")
        self.assertEqual([("a.wav", "hello"), ("b.wav", None)], rows)

    def test_another_delimiter_is_named(self) -> None:
        for name, header, words in (
            ("m.csv", "path;text", "separated by ';': save it with commas"),
            ("m.csv", '"path"\ttext', r"separated by '\\t': name it .tsv"),
            ("m.tsv", "path,text", "separated by ',': name it .csv"),
        ):
            with self.subTest(header=header), self.assertRaisesRegex(DataError, words):
                self.rows(name, f"{header}\na.wav\n")

    def test_bad_lines_of_jsonl(self) -> None:
        lines = [json.dumps({"path": f"{number}.wav", "text": "t"}) for number in range(40)]
        bad = ['{"path"', "[" * 100_000, '{"path": "x", "duration": ' + "9" * 5000 + "}"]
        rows, left_out = self.rows("m.jsonl", "\n".join([*lines[:20], *bad, *lines[20:]]))
        self.assertEqual((len(rows), left_out), (40, {"entry malformed": 3}))

    def test_jsonl_is_read_line_by_line(self) -> None:
        """The objects of a manifest take several times the memory of the file: they must not exist all at once."""
        path = self.written("m.jsonl", "".join(f"{json.dumps(ENTRIES[0])}\n" for _ in range(20_000)))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(sum(entry.content == ENTRIES[0] for entry in read_manifest(path)), 20_000)
        self.assertLess(tracemalloc.get_traced_memory()[1], path.stat().st_size / 4)

    def test_names_and_texts_that_are_not_utf_8(self) -> None:
        lines = [b'{"path": "a\xff.wav"}', *[b'{"path": "%d.wav"}' % number for number in range(10)]]
        rows, left_out = self.rows("m.jsonl", b"\n".join([*lines, b'{"path": "b.wav", "text": "caf\xe9"}']))
        self.assertEqual((os.fsencode(rows[0][0]), left_out), (b"a\xff.wav", {"entry malformed": 1}))

    def test_bad_files_are_errors(self) -> None:
        for content, words in (
            (b"[{]", ":1: not JSON"),
            (b'{"path": "a"}\n{"path"', "1 of 2 .* line 2: not JSON"),
            (b"\xff\xfe", "UTF-8"),
            (b"[" * 100_000, "not JSON"),
        ):
            with self.assertRaisesRegex(DataError, f"m.json.*{words}"):
                self.rows("m.json", content)
        with self.assertRaisesRegex(DataError, "gone.json"):
            list(read_manifest(self.directory / "gone.json"))


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

    def test_duplicates_and_texts_outside_the_alphabet_are_logged_and_counted(self) -> None:
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

    def test_consumed_utterances_are_freed_while_the_others_are_processed(self) -> None:
        utterances = [utterance(f"{index}") for index in range(3)]
        names = []
        for number, consumed in enumerate(consume(utterances), 1):
            names.append(consumed.id)
            self.assertEqual(len(utterances), 3 - number)
        self.assertEqual(names, ["0", "1", "2"])

    def test_a_hundred_thousand(self) -> None:
        utterances = [utterance(f"{index}", "SOME TEXT", index / 10_000) for index in range(100_000)]
        ids, dropped = self.select(utterances, max_audio_length=5.0, limit=1000)
        self.assertEqual((len(ids), sum(dropped.values())), (1000, 99_000))


class TestAlignability(unittest.TestCase):
    def test_against_ctc_loss(self) -> None:
        encoder, random = CTCCharTextEncoder("ab"), np.random.default_rng(0)
        texts = ["".join(random.choice(list("ab"), size)) for size in random.integers(0, 7, 100)]
        utterances = [utterance(str(index), text, float(random.integers(1, 9))) for index, text in enumerate(texts)]
        kept, dropped = split_alignable(utterances, encoder, lambda durations: list(map(int, durations)))
        for each in utterances:
            frames, targets = int(each.duration), torch.tensor([encoder.encode(each.text or "")])
            loss = torch.nn.functional.ctc_loss(
                torch.zeros(frames, 1, 3).log_softmax(-1), targets, [frames], [targets.shape[1]], reduction="sum"
            )
            self.assertEqual(bool(torch.isfinite(loss)), each in kept, each)
        self.assertEqual(dropped["too short for its text"], len(utterances) - len(kept))

    def test_other_reasons(self) -> None:
        utterances = [utterance("a", None), utterance("b", "a", 0.0), utterance("c", "a")]
        kept, dropped = split_alignable(utterances, CTCCharTextEncoder(), lambda durations: [100] * len(durations))
        self.assertEqual([each.id for each in kept], ["c"])
        self.assertEqual(dropped, {"no text": 1, "recording cannot be opened": 1})


if __name__ == "__main__":
    unittest.main()
