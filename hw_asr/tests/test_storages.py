"""The one interface over a directory and over fsspec URLs, and where secrets may stand."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
import unittest
import uuid
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from hw_asr.config.registry import STORAGES
from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.external import Damaged, ExternalStorage, StorageError, StorageUnavailable, copy_stream, md5_of
from hw_asr.storage.fsspec_storage import FsspecStorage
from hw_asr.storage.run_names import RunId
from hw_asr.storage.secrets import from_environment, secrets_in

RUN = RunId("it's+ü", "one")


class InterfaceTest(unittest.TestCase):
    """What holds for every storage; Google Drive's has tests of its own."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        (self.directory / "plain").mkdir()
        self.memory_root = f"/{uuid.uuid4().hex}"
        self.storages: list[ExternalStorage] = [
            DirectoryStorage(self.directory / "plain"),
            FsspecStorage(f"memory:/{self.memory_root}", attempts=2, first_wait=0.0),
            FsspecStorage(f"file://{self.directory}/by-url", attempts=2, first_wait=0.0),
        ]

    def file(self, content: bytes = b"weights" * 400_000) -> Path:
        path = self.directory / "source.pth"
        path.write_bytes(content)
        return path

    def test_round_trip(self) -> None:
        for storage in self.storages:
            with self.subTest(storage):
                storage.check_writable()
                self.assertEqual((storage.runs(), storage.files(RUN)), ([], []))
                for content in (b"", b"{}", b"weights" * 400_000):
                    path, seen = self.file(content), []
                    storage.upload(path, RUN, "best.pth", lambda done, total, seen=seen: seen.append((done, total)))
                    self.assertEqual(seen[-1:], [(len(content), len(content))] if content else [])
                    (stored,) = storage.files(RUN)
                    self.assertEqual((stored.name, stored.size, stored.md5), ("best.pth", len(content), md5_of(path)))
                    storage.download(RUN, "best.pth", self.directory / "down.pth")
                    self.assertTrue(stored.is_copied_to(self.directory / "down.pth"))
                    self.assertGreater(stored.modified, 1e9)
                storage.upload(self.file(b"other"), RunId("a", "b"), "config.json")
                self.assertEqual([run.id for run in storage.runs()], [RunId("a", "b"), RUN])
                with self.assertRaises(StorageError):
                    storage.download(RUN, "absent.pth", self.directory / "absent.pth")
                self.assertFalse((self.directory / "absent.pth").exists())

    def test_a_broken_upload_leaves_what_was_there(self) -> None:
        for storage in self.storages:
            with self.subTest(storage):
                storage.upload(self.file(b"old"), RUN, "best.pth")
                module = type(storage).__module__
                with (
                    mock.patch(f"{module}.copy_stream", side_effect=OSError("the disk is full")),
                    self.assertRaises(StorageUnavailable),
                ):
                    storage.upload(self.file(b"new"), RUN, "best.pth")
                with mock.patch(f"{module}.copy_stream", return_value="0" * 32), self.assertRaises(Damaged):
                    storage.upload(self.file(b"new"), RUN, "best.pth")
                storage.download(RUN, "best.pth", self.directory / "down.pth")
                self.assertEqual((self.directory / "down.pth").read_bytes(), b"old")
                self.assertEqual([file.name for file in storage.files(RUN)], ["best.pth"])
        leftovers = [path.name for path in self.directory.rglob("*") if path.name.endswith(".part")]
        self.assertEqual(leftovers, [])

    def test_a_damaged_copy_is_not_brought(self) -> None:
        storage = FsspecStorage(f"memory:/{self.memory_root}", attempts=1)
        storage.upload(self.file(b"good"), RUN, "best.pth")
        fsspec.filesystem("memory").pipe_file(f"{self.memory_root}/{RUN.experiment}/{RUN.name}/best.pth", b"evil")
        with self.assertRaisesRegex(Damaged, "damaged on the way"):
            storage.download(RUN, "best.pth", self.directory / "down.pth")
        self.assertFalse((self.directory / "down.pth").exists())

    def test_a_passing_failure_is_tried_again(self) -> None:
        storage = FsspecStorage(f"memory:/{self.memory_root}", attempts=3, first_wait=0.0)
        real = MemoryFileSystem.open
        failures = [ConnectionError("planted"), TimeoutError("planted")]

        def flaky(*args: object, **kwargs: object) -> object:
            if failures:
                raise failures.pop()
            return real(*args, **kwargs)

        with mock.patch.object(MemoryFileSystem, "open", flaky):
            storage.upload(self.file(), RUN, "best.pth")
        self.assertEqual(failures, [])
        self.assertEqual(len(storage.files(RUN)), 1)

    def test_names_with_the_signs_of_patterns(self) -> None:
        for storage in self.storages:
            for name in ("a*b", "what?", "x [v2]", "[1]"):
                with self.subTest(storage, name=name):
                    run = RunId(name, name)
                    storage.upload(self.file(b"one"), run, "last.pth")
                    storage.upload(self.file(b"other"), run, "last.pth")
                    storage.copy(run, "last.pth", "best.pth")
                    self.assertEqual([5, 5], [file.size for file in storage.files(run)])
                    storage.download(run, "best.pth", self.directory / "down.pth")

    def test_a_connection_that_died_is_replaced(self) -> None:
        class Mortal(MemoryFileSystem):
            """Every instance is one connection."""

            protocol = "mortal"
            alive: ClassVar[list[int]] = []

            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, **kwargs)
                self.alive.append(id(self))

            def open(self, *args: Any, **kwargs: Any) -> Any:
                if id(self) not in self.alive:
                    raise OSError("Socket is closed")
                return super().open(*args, **kwargs)

        fsspec.register_implementation("mortal", Mortal, clobber=True)
        storage = FsspecStorage(f"mortal:/{self.memory_root}", attempts=2, first_wait=0.0)
        storage.upload(self.file(), RUN, "best.pth")
        Mortal.alive.clear()
        storage.upload(self.file(b"new"), RUN, "best.pth")
        Mortal.alive.clear()
        storage.download(RUN, "best.pth", self.directory / "down.pth")
        self.assertEqual(b"new", (self.directory / "down.pth").read_bytes())

    def test_what_a_storage_cannot_copy_has_to_be_uploaded(self) -> None:
        storage = FsspecStorage(f"memory:/{self.memory_root}", attempts=1)
        storage.upload(self.file(), RUN, "best.pth")
        with mock.patch.object(MemoryFileSystem, "cp_file", fsspec.AbstractFileSystem.cp_file):  # as sftp
            self.assertFalse(storage.copy(RUN, "best.pth", "last.pth"))

    def test_checksums_are_read_when_they_are_asked_for(self) -> None:
        for storage in self.storages:
            storage.upload(self.file(), RUN, "best.pth")
            for checksums in (True, False):
                self.assertEqual([checksums], [bool(file.md5) for file in storage.files(RUN, checksums)], storage)

    def test_a_directory_in_the_home(self) -> None:
        with mock.patch.dict(os.environ, {"HOME": str(self.directory), "USERPROFILE": str(self.directory)}):
            storage = STORAGES.build({"type": "DirectoryStorage", "args": {"path": "~/plain"}})
        storage.check_writable()

    def test_a_file_system_that_cannot_sync_directories(self) -> None:
        fsync = os.fsync

        def refuse(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(descriptor)

        with mock.patch("os.fsync", refuse):
            self.storages[0].upload(self.file(), RUN, "best.pth")
        self.assertEqual(1, len(self.storages[0].files(RUN)))

    def test_read_only_or_missing_directory(self) -> None:
        with self.assertRaisesRegex(StorageError, "no such directory; create it, or mount"):
            DirectoryStorage(self.directory / "absent").runs()
        with mock.patch("os.access", return_value=False), self.assertRaisesRegex(StorageError, "is read-only"):
            self.storages[0].check_writable()
        with (
            mock.patch.object(MemoryFileSystem, "pipe_file", side_effect=PermissionError("planted")),
            self.assertRaisesRegex(StorageError, "cannot write to it: PermissionError$"),
        ):
            self.storages[1].check_writable()


class SecretsTest(unittest.TestCase):
    def test_secrets_must_come_from_the_environment(self) -> None:
        for options in ({"secret": "planted"}, {"client_kwargs": {"aws_session_token": "planted"}}, {"password": "p"}):
            with self.subTest(options), self.assertRaisesRegex(ValueError, "^options.*looks like a secret") as caught:
                FsspecStorage("memory://x", options=options)
            self.assertNotIn("planted", str(caught.exception))
        with self.assertRaisesRegex(ValueError, "^url: contains a password in an address") as caught:
            FsspecStorage("sftp://me:planted@host/runs")
        self.assertNotIn("planted", str(caught.exception))
        storage = FsspecStorage("memory://x", options={"secret": "$PLANTED_NAME"})
        with self.assertRaisesRegex(StorageError, "PLANTED_NAME is not set"):
            storage.runs()
        with mock.patch.dict(os.environ, {"PLANTED_NAME": "planted-value"}):
            storage.runs()
        self.assertEqual(repr(storage), "FsspecStorage('memory://x')")

    def test_secrets_are_recognised_wherever_they_stand(self) -> None:
        for options in (
            {"headers": {"Authorization": "Bearer planted"}}, {"headers": [["X-Auth", "Bearer planted-token"]]},
            {"client_kwargs": {"cookies": ["planted"]}}, {"url": "https://planted@host/x"}, {"Cookie": "a=planted"},
            {"endpoints": [{"u": "https://user:planted@host/"}]}, {"x": "https://h/c?sv=1&sig=planted"},
            {"x": "-----BEGIN RSA PRIVATE KEY-----planted"}, {"x": "AKIA" + "A" * 16}, {"x": ["ghp_" + "a" * 30]},
        ):  # fmt: skip
            with self.subTest(options), self.assertRaisesRegex(ValueError, "^options.*looks like a secret") as caught:
                FsspecStorage("memory://x", options=options)
            self.assertNotIn("planted", str(caught.exception))
        for url in ("abfs://c@a.dfs/x?sig=planted", "https://planted@host/x", "sftp://me:planted@host/runs"):
            with self.assertRaisesRegex(ValueError, "^url: contains a") as caught:
                FsspecStorage(url)
            self.assertNotIn("planted", str(caught.exception))
        for options in ({"anon": True, "endpoint_url": "https://host:9000/x?list=1", "username": "me"},
                        {"key": "$S3_KEY", "headers": {"Authorization": "$HEADER"}, "region": "basic"}):  # fmt: skip
            FsspecStorage("sftp://me@host/runs", options=options)
        self.assertEqual(
            ["data.val[0].url: contains a password in an address"],
            secrets_in({"data": {"val": [{"url": "ftp://a:b@c"}]}}),
        )
        with mock.patch.dict(os.environ, {"PLANTED": "value"}):
            self.assertEqual({"a": [["value", 1]]}, from_environment({"a": [["$PLANTED", 1]]}))

    def test_a_transfer_that_brings_more_than_announced_ends(self) -> None:
        class Endless(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                return bytes(size)

        with self.assertRaisesRegex(Damaged, "more than the 5000000 bytes"):
            copy_stream(Endless(), io.BytesIO(), 5_000_000, None)

    def test_unknown_protocol_is_explained(self) -> None:
        with self.assertRaisesRegex(StorageError, "nonsense"):
            FsspecStorage("nonsense://bucket").runs()

    def test_registered(self) -> None:
        for name in ("DirectoryStorage", "FsspecStorage", "GDriveStorage"):
            self.assertIn(name, STORAGES.names())
        spec = {"type": "FsspecStorage", "args": {"url": "s3://bucket/runs", "options": {"anon": True}}}
        self.assertEqual(STORAGES.check(spec, "storage"), [])
        STORAGES.build(spec)  # connects to nothing, and needs no package for s3


if __name__ == "__main__":
    unittest.main()
