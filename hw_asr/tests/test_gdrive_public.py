"""Folders shared by link: listed and downloaded by gdown without an account, from an emulator of Google's pages."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from hw_asr.cli.main import main
from hw_asr.storage import gdrive_public
from hw_asr.storage.external import StorageError, StorageUnavailable
from hw_asr.storage.gdrive import GDriveStorage
from hw_asr.storage.run_names import RunId

SHIPPED = Path(__file__).resolve().parents[2] / "gdrive_storage" / "external_storage.json"
RUN = RunId("exp", "one")
LARGE = bytes(range(256)) * 8000


@unittest.skipUnless(importlib.util.find_spec("gdown"), "gdown is not installed")
class PublicFolderTest(unittest.TestCase):
    def setUp(self) -> None:
        from hw_asr.tests.public_drive import public_drive

        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        emulator = public_drive()
        self.drive = emulator.__enter__()
        self.addCleanup(emulator.__exit__, None, None, None)
        no_wait = mock.patch("random.uniform", return_value=0.0)
        no_wait.start()
        self.addCleanup(no_wait.stop)
        files = {"config.json": b"{}", "model_best.pth": LARGE, "an & <odd> name.pth": b"odd"}
        self.folder = self.drive.folder(
            {"exp": {"one": files, "two": {}}, "readme.txt": b"", ".hidden": {"x": {"y": b""}}}
        )

    def storage(self, folder: str = "", attempts: int = 3) -> GDriveStorage:
        return GDriveStorage(
            folder or self.folder, self.directory / "absent.json", "$NO_SUCH_KEY", attempts, timeout=30
        )

    def test_what_lies_in_the_folder_is_listed(self) -> None:
        storage = self.storage()
        self.assertEqual([str(run.id) for run in storage.runs()], ["exp:one"])
        names = [file.name for file in storage.files(RUN)]
        self.assertEqual(names, ["an & <odd> name.pth", "config.json", "model_best.pth"])
        self.assertEqual(storage.files(RunId("exp", "absent")), [])

    def test_small_files_and_files_that_need_confirmation_arrive(self) -> None:
        storage, seen = self.storage(), []
        for name, content in (("config.json", b"{}"), ("model_best.pth", LARGE), ("an & <odd> name.pth", b"odd")):
            path = self.directory / "down" / name
            storage.download(RUN, name, path, lambda done, total: seen.append((done, total)))
            self.assertEqual(path.read_bytes(), content)
            self.assertEqual(seen[-1], (len(content), len(content)))
        self.assertEqual(sorted(path.name for path in (self.directory / "down").iterdir()), sorted(
            ["an & <odd> name.pth", "config.json", "model_best.pth"]
        ))  # fmt: skip
        with self.assertRaisesRegex(StorageError, "has no file absent.pth"):
            storage.download(RUN, "absent.pth", self.directory / "absent.pth")

    def test_a_broken_transfer_is_resumed_also_by_the_next_command(self) -> None:
        path = self.directory / "model_best.pth"
        self.drive.faults = [1_500_000, 100]
        self.storage().download(RUN, path.name, path)
        self.assertEqual(path.read_bytes(), LARGE)
        path.unlink()
        self.drive.faults = [1_500_000, 0]
        with self.assertRaisesRegex(StorageUnavailable, "ncomplete"):
            self.storage(attempts=1).download(RUN, path.name, path)
        self.assertFalse(path.exists())
        (part,) = self.directory.glob(".model_best.pth.public*.part")
        self.assertGreaterEqual(part.stat().st_size, 1 << 20)
        self.storage().download(RUN, path.name, path)
        self.assertEqual(path.read_bytes(), LARGE)
        self.assertEqual(list(self.directory.glob(".*")), [])

    def test_a_file_of_any_length_is_not_taken(self) -> None:
        path = self.directory / "model_best.pth"
        with (
            mock.patch.object(gdrive_public, "MAX_BYTES", len(LARGE) - 1),
            self.assertRaisesRegex(StorageError, f"more than {len(LARGE) - 1} bytes; nothing was kept"),
        ):
            self.storage().download(RUN, path.name, path)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_partial_files_that_are_links_are_not_written(self) -> None:
        path, victim = self.directory / "model_best.pth", self.directory / "victim"
        victim.write_text("precious")
        (self.directory / ".model_best.pth.public12345678.part").symlink_to(victim)
        self.storage().download(RUN, path.name, path)
        path.unlink()
        (self.directory / ".model_best.pth.public12345678.part").hardlink_to(victim)
        self.storage().download(RUN, path.name, path)
        self.assertEqual((victim.read_text(), path.read_bytes()), ("precious", LARGE))

    def test_refusals_say_what_to_do(self) -> None:
        self.drive.faults = ["quota"]
        with self.assertRaisesRegex(StorageError, "Google limits downloads of this file.*try again in some hours"):
            self.storage().download(RUN, "model_best.pth", self.directory / "x.pth")
        with self.assertRaisesRegex(StorageError, "not found, or not shared by link"):
            self.storage("0" * 30).runs()
        with self.assertRaisesRegex(StorageError, "no credentials"):
            self.storage().check_writable()

    def test_the_shipped_config_needs_no_login(self) -> None:
        config = json.loads(SHIPPED.read_text(encoding="utf-8"))
        config["args"]["storage_folder_id"] = self.folder
        config["args"]["client_credentials_filepath"] = str(self.directory / "client_secrets.json")
        config["best"]["run"] = "exp:one"
        path = self.directory / "storage.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "GDRIVE_SERVICE_ACCOUNT_KEY"}
        output = io.StringIO()
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            redirect_stdout(output),
            redirect_stderr(io.StringIO()),
        ):
            self.assertEqual(main(["models", "list", "-c", str(path)]), 0)
            self.assertEqual(main(["models", "download", "best", "-c", str(path), "-p", str(self.directory / "m")]), 0)
            self.assertEqual(main(["models", "download", "best", "-c", str(path), "-p", str(self.directory / "m")]), 0)
        self.assertIn("exp:one", output.getvalue())
        self.assertEqual((self.directory / "m/exp/one/model_best.pth").read_bytes(), LARGE)
        self.assertEqual(
            sum("download" in request for request in self.drive.requests), 2
        )  # config and checkpoint, once


if __name__ == "__main__":
    unittest.main()
