"""Logging in to Google Drive: least scope, tokens kept private, refusals in time, and no secret in anything said."""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import stat
import unittest
from pathlib import Path
from unittest import mock

from hw_asr.storage.exporter import Exporter
from hw_asr.storage.external import StorageError
from hw_asr.storage.gdrive_auth import READ_SCOPE, WRITE_SCOPE, token_path
from hw_asr.storage.runs import Runs
from hw_asr.tests.drive_case import RUN, DriveCase
from hw_asr.tests.drive_emulator import ROOT
from hw_asr.tests.waiting import wait_until


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class AuthTest(DriveCase):
    def setUp(self) -> None:
        super().setUp()
        for name in ("sys.stdin", "sys.stderr"):  # no terminal to ask on, unless a test brings one
            patch = mock.patch(name, io.StringIO())
            patch.start()
            self.addCleanup(patch.stop)

    def personal(self, **args: object):  # type: ignore[no-untyped-def]
        return self.storage(client_credentials_filepath=self.client_path, service_account_key_filepath=None, **args)

    def consent(self, answer: str) -> mock._patch:  # type: ignore[type-arg]
        return mock.patch("sys.stdin", Terminal(answer + "\n"))

    def test_scope_is_no_wider_than_needed(self) -> None:
        self.drive.items[ROOT]["driveId"] = "shared drive"
        storage = self.storage()
        storage.runs()
        self.assertEqual(set(self.drive.tokens.values()), {READ_SCOPE})
        storage.check_writable()
        self.assertEqual(set(self.drive.tokens.values()), {READ_SCOPE, WRITE_SCOPE})

    def test_key_from_environment_and_address(self) -> None:
        with mock.patch.dict(os.environ, {"DRIVE_KEY": self.key_path.read_text()}):
            self.assertEqual(self.storage(service_account_key_filepath="$DRIVE_KEY").runs(), [])
        with mock.patch.dict(os.environ, {"DRIVE_KEY": str(self.key_path)}):
            self.assertEqual(self.storage(service_account_key_filepath="$DRIVE_KEY").runs(), [])
        key_file = self.drive.put_file("key.json", ROOT, self.key_path.read_bytes())
        self.drive.public.add(key_file["id"])
        url = f"{self.drive.url}drive/v2/files/{key_file['id']}?alt=media"
        self.assertEqual(self.storage(service_account_key_filepath=url).runs(), [])
        with self.assertRaisesRegex(StorageError, "service account key: 127.0.0.1 answered 401$"):
            self.storage(service_account_key_filepath=f"{self.drive.url}drive/v2/files/planted?alt=media").runs()
        with self.assertRaisesRegex(StorageError, "expected an https:// address"):
            self.storage(service_account_key_filepath="http://example.com/planted-key").runs()

    def test_missing_and_wrong_credentials_are_explained(self) -> None:
        wrong = self.directory / "wrong.json"
        wrong.write_text('["planted-key-id"]')
        broken_key = self.directory / "broken.json"
        broken_key.write_text(json.dumps({**json.loads(self.key_path.read_text()), "private_key": "planted-key-id"}))
        cases = {
            "no credentials are configured; docs/gdrive_storage.md .* null": {},
            r"no credentials at \$NOWHERE or absent.json": {
                "service_account_key_filepath": "$NOWHERE",
                "client_credentials_filepath": Path("absent.json"),
            },
            "does not hold a JSON object": {"service_account_key_filepath": str(wrong)},
            "cannot be used": {"service_account_key_filepath": str(broken_key)},
            "its type is not service_account": {"service_account_key_filepath": str(self.client_path)},
            "client credentials: expected the client secrets file": {"client_credentials_filepath": self.key_path},
        }
        for message, args in cases.items():
            with self.subTest(message), self.assertRaisesRegex(StorageError, message) as caught:
                storage = self.storage(**{"service_account_key_filepath": None, **args})
                storage.runs() if storage._login.has_credentials() else storage.check_writable()
            self.assertNotIn("planted", str(caught.exception))

    def test_personal_login_by_code_is_kept_privately_and_refreshed(self) -> None:
        with self.consent(self.drive.code), mock.patch("sys.stderr", io.StringIO()) as said:
            self.personal().check_writable()
        self.assertIn("https://accounts.example.com/auth?", said.getvalue())
        self.assertIn("auth%2Fdrive&", said.getvalue())
        token = token_path(self.client_path)
        self.assertEqual(token.name, "client_secrets.token.json")
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        self.drive.tokens.clear()  # every access token has expired
        storage = self.personal()  # no terminal any more
        storage.upload(self.file(), RUN, "best.pth")
        self.assertEqual(len(storage.files(RUN)), 1)
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)

    def test_personal_login_by_address_for_reading_does_not_serve_for_writing(self) -> None:
        address = f"http://localhost:8090/?code={self.drive.code}&scope=x"
        with self.consent(address), mock.patch("sys.stderr", io.StringIO()) as said:
            self.assertEqual(self.personal().runs(), [])
        self.assertIn("drive.readonly", said.getvalue())
        self.assertEqual(self.personal().runs(), [])  # from the stored token
        with self.assertRaisesRegex(StorageError, "no stored login to read and write .*model_loader.py login"):
            self.personal().check_writable()

    def test_refused_consent_and_revoked_login(self) -> None:
        for answer in ("", "http://localhost:8090/?error=access_denied"):
            with self.consent(answer), self.assertRaisesRegex(StorageError, "no consent was given"):
                self.personal().runs()
        with self.consent("planted-wrong-code"), self.assertRaisesRegex(StorageError, "code is not valid"):
            self.personal().runs()
        with self.consent(self.drive.code):
            self.personal().runs()
        self.drive.refresh_token = "another"
        with self.assertRaisesRegex(StorageError, "invalid_grant"):
            self.personal().runs()

    def test_token_in_a_place_that_cannot_be_written(self) -> None:
        with self.consent(self.drive.code):
            self.personal().check_writable()
        with mock.patch("hw_asr.storage.gdrive_auth.write_and_rename", side_effect=PermissionError):
            self.assertEqual(self.personal().runs(), [])

    def test_upload_is_refused_before_it_is_needed(self) -> None:
        run = Runs(self.directory / "saved").create("exp", "one")
        self.drive.can_write = False
        with self.assertRaisesRegex(StorageError, "robot@example.com may only read it; share it .* as Editor"):
            Exporter(self.storage(), run)
        self.drive.can_write = True
        with self.assertRaisesRegex(StorageError, "is a service account, which has no storage of its own"):
            Exporter(self.storage(), run)
        with self.consent(self.drive.code):
            Exporter(self.personal(), run)
        self.drive.quota = 0
        with self.assertRaisesRegex(StorageError, "the storage of robot@example.com is full"):
            Exporter(self.personal(), run)
        self.drive.items[ROOT]["driveId"] = "shared drive"
        Exporter(self.storage(), run)
        self.drive.items[ROOT]["mimeType"] = "text/plain"
        with self.assertRaisesRegex(StorageError, "not a folder"):
            Exporter(self.storage(), run)
        del self.drive.items[ROOT]
        with self.assertRaisesRegex(StorageError, f"folder {ROOT}: not found, or not shared with robot"):
            Exporter(self.storage(), run)

    def test_a_dead_drive_does_not_stop_training(self) -> None:
        run = Runs(self.directory / "saved").create("exp", "one")
        self.drive.fail(503, times=1000)
        with self.assertLogs("hw_asr.storage.exporter", logging.WARNING) as logs:
            Exporter(self.storage(attempts=2), run)
        self.assertIn("will be tried later: Google's login service answered 503", logs.output[0])

    def test_nothing_says_a_secret(self) -> None:
        said: list[str] = []
        handler = logging.Handler(logging.DEBUG)
        handler.emit = lambda record: said.append(logging.Formatter().format(record))  # type: ignore[method-assign]
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        self.addCleanup(root.removeHandler, handler)
        self.addCleanup(root.setLevel, level)
        run = Runs(self.directory / "saved").create("exp", "one")
        with self.consent(self.drive.code), mock.patch("sys.stderr", io.StringIO()) as stderr:
            self.personal().check_writable()
        self.drive.items[ROOT]["driveId"] = "shared drive"
        for storage in (self.storage(attempts=2), self.personal(attempts=2)):
            self.drive.faults.clear()
            said += [repr(storage), str(storage)]
            exporter = Exporter(storage, run, attempts=2, first_wait=0.001)
            for kind in (200, 400, 401, 403, 404, 500, "cut"):
                path = run.checkpoint_path(str(kind))
                path.write_bytes(f"weights {storage!r} {kind}".encode())
                if kind != 200:
                    self.drive.fail(kind, times=1000)
                exporter.export(path)
                wait_until(functools.partial(settled, exporter, path.name))
                try:
                    storage.download(run.id, "200.pth", self.directory / "down.pth")
                except StorageError as error:
                    said += [str(error), repr(error), repr(error.__cause__)]
                self.drive.faults.clear()
            said.append(str(exporter.missing))
            self.drive.fail(503, times=1000)
            exporter.close()
        said.append(stderr.getvalue())
        written = [path.read_text("latin-1") for path in (self.directory / "saved").rglob("*") if path.is_file()]
        self.assertGreater(len(said), 20)
        for secret in self.secrets():
            for text in said + written:
                self.assertNotIn(secret, text)


def settled(exporter: Exporter, name: str) -> bool:
    """Whether the export of the only file that is let through, or else of `name`, has ended."""
    return name in exporter.missing or (name == "200.pth" and exporter.exported > 0)


if __name__ == "__main__":
    unittest.main()
