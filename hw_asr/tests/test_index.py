"""The index: built once, rebuilt after changes, movable, optional."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from hw_asr.datasets import index as module
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.folder import list_folder
from hw_asr.datasets.index import indexed, measure, path_of_index
from hw_asr.tests.corpus_trees import noise
from hw_asr.tests.waiting import DEADLINE
from hw_asr.types import Selection, Utterance


def scan(directory: Path) -> Selection:
    return list_folder(directory, None)


def index_in_a_process(directory: Path, index_path: Path, calls: Path) -> None:
    def counted(path: Path) -> Selection:
        with calls.open("a") as file:
            file.write("x")
        return scan(path)

    assert len(indexed(directory, index_path, counted, "test").utterances) == 5


class TestIndex(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.data = self.root / "data"
        for number in range(5):
            noise(self.data / f"sub{number % 2}" / f"é {number}.wav", 0.1 * (1 + number))
        self.index_path = self.root / "elsewhere" / "index.jsonl"
        self.scans = 0
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)

    def indexed(self, texts_in: Path | None = None) -> list[Utterance]:
        def counted(directory: Path) -> Selection:
            self.scans += 1
            return scan(directory)

        return indexed(self.data, self.index_path, counted, "test", texts_in).utterances

    def test_what_could_not_be_opened_is_measured_again(self) -> None:
        denied = self.data / "sub0" / "é 2.wav"
        content = denied.read_bytes()
        stat = denied.stat()
        denied.write_bytes(b"x" * len(content))  # as unreadable as without the right to read it
        os.utime(denied, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.assertEqual(0.0, self.indexed()[1].duration)
        denied.write_bytes(content)
        os.utime(denied, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.assertEqual(0.3, round(self.indexed()[1].duration, 6))
        self.assertEqual(1, self.scans)

    def test_a_path_through_the_directory_above(self) -> None:
        self.data = self.data / "sub0" / ".." / ".." / "data"
        self.assertEqual(self.indexed(), self.indexed())
        self.assertEqual(1, self.scans)

    def test_an_index_in_the_directory_of_the_data_is_no_part_of_them(self) -> None:
        for place in (self.data, self.data / "sub1"):
            self.index_path, self.scans = path_of_index(self.data, place, "test"), 0
            self.assertEqual(self.indexed(), self.indexed())
            self.assertEqual(1, self.scans)

    def test_built_once_and_read_back_equal(self) -> None:
        first = self.indexed()
        self.assertEqual(self.indexed(), first)
        self.assertEqual(self.scans, 1)
        self.assertEqual([round(each.duration, 6) for each in first], [0.1, 0.3, 0.5, 0.2, 0.4])

    def test_it_is_jsonl_with_relative_paths(self) -> None:
        self.indexed()
        header, *lines = [json.loads(line) for line in self.index_path.read_text().splitlines()]
        self.assertEqual(header["index"], module.VERSION)
        self.assertEqual(
            lines[0], {"id": "sub0/é 0.wav", "path": "sub0/é 0.wav", "text": None, "duration": 0.1, "speaker": None}
        )
        self.assertNotIn(str(self.root), self.index_path.read_text())

    def test_every_change_is_noticed(self) -> None:
        texts = self.root / "texts"
        texts.mkdir()

        def touch(path: Path, nanoseconds: int) -> None:
            os.utime(path, ns=(nanoseconds, nanoseconds))

        changes = (
            lambda: noise(self.data / "new.wav"),
            lambda: (self.data / "new.wav").rename(self.data / "newer.wav"),
            lambda: noise(self.data / "newer.wav", 0.7),
            lambda: touch(self.data / "newer.wav", 1),
            lambda: (self.data / "newer.wav").unlink(),
            lambda: (texts / "a.txt").write_text("a"),
            lambda: (texts / "a.txt").write_text("ab"),
            lambda: (self.data / "sub0").rename(self.data / "sub2"),
        )
        self.indexed(texts)
        for number, change in enumerate(changes, 2):
            change()
            for _ in range(2):
                self.indexed(texts)
            self.assertEqual(self.scans, number)

    def test_transcripts_have_a_limit(self) -> None:
        texts = self.data.parent / "texts"
        texts.mkdir()
        (recording,) = files_under(self.data)[:1]
        (texts / f"{recording.stem}.txt").write_text("spoken")
        known = {utterance.audio_path: utterance.text for utterance in list_folder(self.data, texts).utterances}
        self.assertEqual("spoken", known[str(recording)])
        with mock.patch("hw_asr.datasets.folder.MAX_TRANSCRIPT_BYTES", 5):
            known = {utterance.audio_path: utterance.text for utterance in list_folder(self.data, texts).utterances}
        self.assertIsNone(known[str(recording)])

    def test_index_and_data_can_be_moved(self) -> None:
        before = self.indexed()
        self.data = self.data.rename(self.root / "moved")
        self.index_path = self.index_path.rename(self.root / "index.jsonl")
        after = self.indexed()
        self.assertEqual(self.scans, 1)
        self.assertEqual([each.id for each in after], [each.id for each in before])
        self.assertTrue(all(Path(each.audio_path).is_file() for each in after))

    def test_a_hidden_index_beside_the_data_is_no_change(self) -> None:
        self.index_path = path_of_index(self.data, None, "x")
        self.indexed()
        self.indexed()
        self.assertEqual((self.index_path.parent, self.scans), (self.data, 1))

    def test_damaged_indexes_are_rebuilt(self) -> None:
        whole = self.indexed() and self.index_path.read_bytes()
        other_version = whole.replace(b'{"index": ', b'{"index": 99')
        for number, damaged in enumerate((b"", b"{}", b"\xff", whole[:-20], other_version, whole + b"[]\n"), 2):
            self.index_path.write_bytes(damaged)
            self.assertEqual(len(self.indexed()), 5)
            self.assertEqual(self.scans, number)
            self.assertEqual(self.index_path.read_bytes(), whole)

    def test_an_index_that_came_with_the_data_is_checked(self) -> None:
        self.indexed()
        header, *lines = self.index_path.read_text().splitlines()
        faults: list[dict[str, object]] = [
            {"path": "../../outside.wav"}, {"path": "a/../../b"}, {"id": 5}, {"text": ["x"]}, {"speaker": {}},
            {"duration": "1"}, {"duration": float("nan")}, {"duration": -1}, {"duration": True}, {"duration": 1e999},
        ]  # fmt: skip
        changed = [json.dumps({**json.loads(lines[0]), **fault}) for fault in faults]
        headers = [json.dumps({**json.loads(header), "left_out": value}) for value in (5, {"x": "y"})]
        for scans, content in enumerate(
            [*([header, line, *lines[1:]] for line in [*changed, "[" * 5000]), *([other, *lines] for other in headers)],
            2,
        ):
            self.index_path.write_text("\n".join(content) + "\n")
            self.assertEqual([utterance.audio_path.count("..") for utterance in self.indexed()], [0] * 5)
            self.assertEqual(self.scans, scans, content[1][:200])

    def test_an_unwritable_index_is_rebuilt_each_time(self) -> None:
        refused = mock.patch.object(module, "write_and_rename", side_effect=PermissionError(13, "Permission denied"))
        with refused:
            self.indexed()
            self.indexed()
        self.assertEqual(self.scans, 2)

    def test_a_lock_that_cannot_be_opened_is_gone_without(self) -> None:
        """As that of another user in a directory of both."""
        (self.index_path.parent / f".{self.index_path.name}.lock").mkdir(parents=True)
        self.assertEqual(self.indexed(), self.indexed())
        self.assertEqual(self.scans, 1)

    def test_an_index_that_is_up_to_date_needs_no_lock(self) -> None:
        self.indexed()
        with mock.patch.object(module, "waiting_lock", side_effect=AssertionError):
            self.indexed()
        self.assertEqual(self.scans, 1)

    def test_a_directory_with_a_long_name(self) -> None:
        self.data = self.data.rename(self.root / ("ж" * 120))
        for index_dir in (None, self.root / "elsewhere"):
            self.index_path, self.scans = path_of_index(self.data, index_dir, self.data.name), 0
            self.assertEqual(self.indexed(), self.indexed())
            self.assertEqual(self.scans, 1)

    def test_corpora_of_one_name_share_a_directory_of_indexes(self) -> None:
        places = [self.data, self.root / "other" / "data"]
        noise(places[1] / "a.wav")
        for _ in range(2):
            for self.data in places:
                self.index_path = path_of_index(self.data, self.root / "indexes", "data")
                self.indexed()
        self.assertEqual(self.scans, 2)
        self.assertTrue(all(path.name.startswith(".") for path in self.index_path.parent.iterdir()))

    def test_one_of_several_processes_builds_it(self) -> None:
        context, calls = multiprocessing.get_context("fork"), self.root / "calls"
        processes = [
            context.Process(target=index_in_a_process, args=(self.data, self.index_path, calls)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(DEADLINE)
            self.assertEqual(process.exitcode, 0)
        self.assertEqual(calls.read_text(), "x")

    def test_broken_recordings_are_unreadable_not_fatal(self) -> None:
        (self.data / "broken.wav").write_bytes(b"RIFF")
        logging.disable(logging.NOTSET)
        with self.assertLogs("hw_asr", "WARNING") as logs:
            found = {each.id: each.duration for each in self.indexed()}
        self.assertEqual((found["broken.wav"], len(found)), (0.0, 6))
        self.assertEqual(len(logs.output), 1)
        self.assertIn("broken.wav", logs.output[0])
        self.assertEqual(
            {each.id: each.duration for each in self.indexed()}, {k: round(v, 6) for k, v in found.items()}
        )

    def test_a_hundred_thousand_entries(self) -> None:
        def many(_: Path) -> Iterator[Utterance]:
            for number in range(100_000):
                yield Utterance(f"u{number}", f"{self.data}/{number % 1000}/{number}.flac", "SOME TEXT", 0.0, "s")

        def measured(utterances: list[Utterance], _: str) -> list[Utterance]:
            return [each._replace(duration=1.5) for each in utterances]

        with mock.patch.object(module, "measure", measured):
            first = indexed(self.data, self.index_path, many, "test").utterances
            second = indexed(self.data, self.index_path, many, "test").utterances
        self.assertEqual(first, second)

    def test_recordings_are_measured_in_order_with_few_waiting(self) -> None:
        """A waiting task takes 1.5 KB; a million of them would take more than their utterances."""
        utterances = scan(self.data).utterances * 400
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with mock.patch.object(module, "NUM_QUEUED", 100):
            durations = [round(utterance.duration, 6) for utterance in measure(utterances, "test")]
        self.assertEqual(durations, [0.1, 0.3, 0.5, 0.2, 0.4] * 400)
        self.assertLess(tracemalloc.get_traced_memory()[1], 700 * len(utterances))

    def test_nothing_to_measure(self) -> None:
        self.assertEqual(measure([], "test"), [])

    def test_the_benchmark_downloads_nothing(self) -> None:
        for path in (self.root / "mistyped", self.root):
            command = [sys.executable, "-m", "benchmarks.index", str(path)]
            root = Path(__file__).parents[2]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("neither a manifest nor a directory with train-clean-100", done.stderr)


if __name__ == "__main__":
    unittest.main()
