"""What tests against the Drive emulator share: credentials with planted secrets, a patient storage, files."""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.storage.gdrive import GDriveStorage
from hw_asr.storage.run_names import RunId
from hw_asr.tests.drive_emulator import ROOT, DriveEmulator

RUN = RunId("experiment", "one")
CHUNK = 256 << 10


@functools.cache
def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class DriveCase(unittest.TestCase):
    """An emulator, a directory, and chunks small enough for small files to have many."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.drive = DriveEmulator()
        self.addCleanup(self.drive.close)
        for patch in (
            mock.patch("hw_asr.storage.gdrive_transfer.CHUNK_BYTES", CHUNK),
            mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1,localhost"}),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)
        warnings.filterwarnings("ignore", "sign\\(\\) is deprecated", DeprecationWarning)  # oauth2client's own
        for name in ("hw_asr.storage", "googleapiclient", "oauth2client"):
            logging.getLogger(name).addHandler(logging.NullHandler())

    @functools.cached_property
    def key_path(self) -> Path:
        """A service account's key."""
        path = self.directory / "key.json"
        key = {
            "type": "service_account",
            "client_email": "robot@example.com",
            "client_id": "1",
            "private_key_id": "planted-key-id",
            "private_key": private_key(),
            "token_uri": f"{self.drive.url}token",
        }
        path.write_text(json.dumps(key))
        return path

    @functools.cached_property
    def client_path(self) -> Path:
        """Client secrets of a personal login."""
        path = self.directory / "client_secrets.json"
        client = {
            "client_id": "client",
            "client_secret": "planted-client-secret",
            "auth_uri": "https://accounts.example.com/auth",
            "token_uri": f"{self.drive.url}token",
        }
        path.write_text(json.dumps({"installed": client}))
        return path

    def storage(self, **args: Any) -> GDriveStorage:
        defaults = {
            "service_account_key_filepath": str(self.key_path),
            "attempts": 4,
            "timeout": 5.0,
            "first_wait": 0.001,
            "endpoint": self.drive.url,
        }
        return GDriveStorage(ROOT, **{**defaults, **args})

    def file(self, size: int = 3 * CHUNK + 100, seed: int = 0) -> Path:
        path = self.directory / f"source{seed}.pth"
        path.write_bytes((seed + 1).to_bytes(4, "big") * (size // 4) + b"x" * (size % 4))
        return path

    def secrets(self) -> list[str]:
        """Everything that must not be seen anywhere."""
        lines = private_key().splitlines()[1:-1]
        tokens = [*self.drive.tokens, self.drive.refresh_token, self.drive.code]
        return [*lines, *tokens, "planted-client-secret", "planted-key-id"]
