"""Exports beside training: order, newest wins, retries, the end; against a storage with chosen faults."""

from __future__ import annotations

import errno
import logging
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.exporter import ExportedFile, Exporter
from hw_asr.storage.external import (
    ExternalStorage,
    Progress,
    RemoteFile,
    RemoteRun,
    StorageError,
    StorageUnavailable,
    md5_of,
)
from hw_asr.storage.run_names import RunId
from hw_asr.storage.runs import Run, Runs
from hw_asr.tests.waiting import DEADLINE, wait_until


class ScriptedStorage(ExternalStorage):
    """Calls `script` for each upload with its number; records what went through, and how many ran at once."""

    def __init__(self, script: Callable[[int], None] = lambda number: None) -> None:
        self.script = script
        self.uploads: list[tuple[str, bytes]] = []
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.lock = threading.Lock()

    def check_writable(self) -> None:
        pass

    def runs(self) -> list[RemoteRun]:
        raise AssertionError

    def files(self, run: RunId, checksums: bool = True) -> list[RemoteFile]:
        raise AssertionError

    def download(self, run: RunId, name: str, path: Path, progress: Progress | None = None) -> None:
        raise AssertionError

    def upload(self, path: Path, run: RunId, name: str, progress: Progress | None = None) -> None:
        with self.lock:
            self.calls += 1
            number = self.calls
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            self.script(number)
            self.uploads.append((name, path.read_bytes()))
        finally:
            with self.lock:
                self.running -= 1


class ExporterTest(unittest.TestCase):
    def setUp(self) -> None:
        logging.getLogger("hw_asr.storage").addHandler(logging.NullHandler())
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.run_: Run = Runs(self.root / "saved").create("exp", "one")

    def write(self, name: str, content: bytes) -> Path:
        path = self.run_.model_dir / name
        part = path.with_suffix(".new")
        part.write_bytes(content)
        part.replace(path)
        return path

    def exporter(self, storage: ExternalStorage, attempts: int = 3) -> Exporter:
        return Exporter(storage, self.run_, attempts=attempts, first_wait=0.001, longest_wait=0.002)

    def test_one_at_a_time_and_the_newest_wins(self) -> None:
        started, go_on = threading.Event(), threading.Event()

        def script(number: int) -> None:
            started.set()
            self.assertTrue(go_on.wait(DEADLINE))

        storage = ScriptedStorage(script)
        exporter = self.exporter(storage)
        exporter.export(self.write("first.pth", b"first"))
        self.assertTrue(started.wait(DEADLINE))
        for version in range(20):
            exporter.export(self.write("best.pth", b"version %d" % version))
            exporter.export(self.write("last.pth", b"version %d" % version))
        go_on.set()
        exporter.close()
        self.assertEqual(
            storage.uploads, [("first.pth", b"first"), ("best.pth", b"version 19"), ("last.pth", b"version 19")]
        )
        self.assertEqual(storage.most_running, 1)
        self.assertEqual((exporter.failures, exporter.missing, exporter.exported), (0, {}, 3))

    def test_retries_until_it_works(self) -> None:
        def script(number: int) -> None:
            if number < 3:
                raise StorageUnavailable("Drive answered 503")

        storage = ScriptedStorage(script)
        exporter = self.exporter(storage)
        exporter.export(self.write("best.pth", b"x"))
        wait_until(lambda: exporter.exported or exporter.missing)
        exporter.close()
        self.assertEqual((storage.calls, exporter.failures, exporter.missing), (3, 0, {}))

    def test_dead_storage_is_reported_loudly_and_bounded(self) -> None:
        def script(number: int) -> None:
            raise StorageUnavailable("no connection")

        storage = ScriptedStorage(script)
        exporter = self.exporter(storage)
        exporter.export(self.write("best.pth", b"x"))
        wait_until(lambda: exporter.missing)
        self.assertEqual(storage.calls, 3)
        with self.assertLogs("hw_asr.storage.exporter", logging.ERROR) as logs:
            exporter.close()
        self.assertEqual(storage.calls, 4)  # one last try at the end
        self.assertIn("NOT EXPORTED: best.pth of run exp:one: no connection", logs.output[0])
        self.assertIn("models upload -c ", logs.output[1])
        self.assertGreater(exporter.failures, 0)
        self.assertEqual(exporter.missing, {"best.pth": "no connection"})

    def test_what_failed_is_made_good_when_the_storage_is_back(self) -> None:
        dead = threading.Event()
        dead.set()

        def script(number: int) -> None:
            if dead.is_set():
                raise StorageUnavailable("no connection")

        storage = ScriptedStorage(script)
        exporter = self.exporter(storage, attempts=1)
        exporter.export(self.write("config.json", b"{}"))
        wait_until(lambda: exporter.missing)
        dead.clear()
        exporter.export(self.write("best.pth", b"x"))
        exporter.close()
        self.assertEqual(storage.uploads, [("best.pth", b"x"), ("config.json", b"{}")])
        self.assertEqual((exporter.missing, exporter.failures), ({}, 1))

    def test_end_does_not_wait_for_longer_than_its_limit(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)
        storage = ScriptedStorage(lambda number: self.assertTrue(release.wait(DEADLINE)))
        exporter = self.exporter(storage)
        exporter.export(self.write("best.pth", b"x"))
        exporter.export(self.write("last.pth", b"x"))
        with self.assertLogs("hw_asr.storage.exporter", logging.INFO) as logs:
            exporter.close(timeout=0.05)
        self.assertRegex(logs.output[0], "Finishing the export of .*best.pth.* at most 0.05 s")
        self.assertEqual(set(exporter.missing), {"best.pth", "last.pth"})

    def test_a_bug_or_a_refusal_ends_one_export_not_the_thread(self) -> None:
        def script(number: int) -> None:
            if number == 1:
                raise ZeroDivisionError("secret")
            if number == 2:
                raise StorageError("the storage is full")

        storage = ScriptedStorage(script)
        exporter = self.exporter(storage)
        for name in ("a.pth", "b.pth"):
            exporter.export(self.write(name, b"x"))
        wait_until(lambda: len(exporter.missing) == 2)
        self.assertEqual(exporter.missing, {"a.pth": "unexpected ZeroDivisionError", "b.pth": "the storage is full"})
        exporter.export(self.write("c.pth", b"x"))
        exporter.close()
        self.assertEqual([name for name, _ in storage.uploads], ["c.pth", "a.pth", "b.pth"])

    def test_content_that_is_there_is_not_sent_again(self) -> None:
        storage = DirectoryStorage(self.root / "target")
        (self.root / "target").mkdir()
        sent: list[str] = []
        upload = storage.upload
        storage.upload = lambda path, run, name, progress=None: (sent.append(name), upload(path, run, name))[1]
        exporter = self.exporter(storage)
        best = self.write("model_best.pth", b"same")
        for name in ("checkpoint-epoch1.pth", "last.pth"):
            (self.run_.model_dir / name).hardlink_to(best)
        for path in (best, self.run_.model_dir / "checkpoint-epoch1.pth", self.run_.model_dir / "last.pth", best):
            exporter.export(path)
        exporter.close()
        self.assertEqual(sent, ["model_best.pth"])
        stored = {file.name: file.size for file in storage.files(self.run_.id)}
        self.assertEqual(stored, {"model_best.pth": 4, "checkpoint-epoch1.pth": 4, "last.pth": 4})
        self.assertEqual(list(self.run_.model_dir.glob(".*")), [])

    def test_each_checkpoint_is_the_version_of_its_step_and_follows_its_metrics(self) -> None:
        storage = ScriptedStorage()
        seen: list[ExportedFile] = []
        exporter = Exporter(storage, self.run_, exported=seen.append)
        self.run_.metrics_path.write_bytes(b'{"step": 1}\n{"ste')
        path = self.write("last.pth", b"first")
        exporter.export(path, 1)
        self.write("last.pth", b"second")
        exporter.close()
        self.assertEqual(storage.uploads, [("metrics.jsonl", b'{"step": 1}\n'), ("last.pth", b"first")])
        self.assertEqual([(file.name, file.step) for file in seen], [("last.pth", 1)])

    def test_a_rotated_checkpoint_is_no_failure(self) -> None:
        storage = DirectoryStorage(self.root)
        exporter = self.exporter(storage)
        exporter.export(self.run_.model_dir / "removed.pth")
        exporter.close()
        self.assertEqual((exporter.missing, exporter.exported), ({}, 0))

    def test_read_only_storage_is_refused_at_the_start(self) -> None:
        with self.assertRaisesRegex(StorageError, "no such directory"):
            self.exporter(DirectoryStorage(self.root / "absent"))

    def test_a_version_that_cannot_be_kept_is_missing(self) -> None:
        storage = ScriptedStorage()
        exporter = self.exporter(storage)
        path = self.write("last.pth", b"1")
        full = OSError(errno.ENOSPC, "disk full")
        with (
            mock.patch.object(Path, "hardlink_to", side_effect=OSError(errno.EPERM, "no links")),
            mock.patch("shutil.copyfile", side_effect=full),
            mock.patch("hw_asr.storage.exporter.logger.error") as error,
        ):
            exporter.export(path)
        error.assert_called_once()
        self.assertIn("disk full", exporter.missing["last.pth"])
        exporter.export(path)
        exporter.close()
        self.assertEqual({}, exporter.missing)

    def test_content_arrives(self) -> None:
        target = self.root / "target"
        target.mkdir()
        exporter = self.exporter(DirectoryStorage(target))
        path = self.write("best.pth", bytes(range(256)) * 10_000)
        exporter.export(path)
        exporter.close()
        self.assertEqual(md5_of(target / "exp" / "one" / "best.pth"), md5_of(path))


if __name__ == "__main__":
    unittest.main()
