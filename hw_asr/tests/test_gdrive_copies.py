"""Copies on the side of Google Drive, and the reasons why it refuses downloads and uploads."""

from __future__ import annotations

import unittest

from hw_asr.storage.external import StorageError, md5_of
from hw_asr.storage.run_names import RunId
from hw_asr.tests.drive_case import RUN, DriveCase
from hw_asr.tests.test_gdrive import MEDIA


class GDriveTest(DriveCase):
    def test_refused_downloads_are_told_apart_from_full_storage(self) -> None:
        storage, path = self.storage(), self.file(7)
        storage.upload(path, RUN, "a.pth")
        for reason, message in (
            ("quotaExceeded", "limits downloads of this file"),
            ("downloadQuotaExceeded", "limits downloads of this file"),
            ("cannotDownloadAbusiveFile", "flagged the file as abusive"),
        ):  # fmt: skip
            self.drive.fail(403, "GET", MEDIA, reason=reason)
            with self.subTest(reason), self.assertRaisesRegex(StorageError, message):
                storage.download(RUN, "a.pth", self.directory / "down.pth")
        self.drive.fail(403, "P", "^/upload", reason="storageQuotaExceeded", times=9)
        with self.assertRaisesRegex(StorageError, "the account's storage is full"):
            storage.upload(path, RUN, "b.pth")

    def test_a_copy_is_made_on_the_side_of_drive(self) -> None:
        storage, path = self.storage(), self.file()
        storage.upload(path, RUN, "model_best.pth")
        sent = self.drive.bytes_up
        self.drive.fail("lost", "POST", "/copy$")
        self.assertTrue(storage.copy(RUN, "model_best.pth", "checkpoint-epoch1.pth"))
        self.assertLess(self.drive.bytes_up - sent, 2000)
        copied = {f"experiment/one/{name}.pth": md5_of(path) for name in ("model_best", "checkpoint-epoch1")}
        self.assertEqual(self.drive.tree(), copied)
        self.assertFalse(
            storage.copy(RUN, "model_best.pth", "checkpoint-epoch1.pth")
        )  # it would be a second of the name
        self.assertFalse(storage.copy(RUN, "absent.pth", "other.pth"))

    def test_names_that_differ_in_case_are_two_files_and_two_runs(self) -> None:
        storage, path = self.storage(), self.file(7)
        upper = RunId("experiment", "ONE")
        storage.upload(path, RUN, "last.pth")
        for run, name in ((RUN, "LAST.pth"), (upper, "last.pth")):
            storage.upload(self.file(9, seed=1), run, name)
        self.assertEqual(["LAST.pth", "last.pth"], [file.name for file in storage.files(RUN)])
        self.assertEqual(["last.pth"], [file.name for file in storage.files(upper)])
        self.assertEqual(md5_of(path), self.drive.tree()["experiment/one/last.pth"])


if __name__ == "__main__":
    unittest.main()
