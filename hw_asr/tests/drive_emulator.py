"""An emulator of Google Drive's REST interface (version 2) and token endpoint on a loopback port, which can fail.

Contents lie in files and pass through in blocks, so that a test can watch the memory of the client in this process.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hw_asr.storage.external import md5_of_stream
from hw_asr.tests.drive_http import DriveHandler

FOLDER = "application/vnd.google-apps.folder"
ROOT = "storage-folder"


@dataclass
class Fault:
    """What goes wrong with the next requests of a kind.

    `kind`: a status, or slow, cut (half of the bytes pass), lost (done, but no answer), damaged (one byte differs).
    """

    kind: int | str
    method: str
    path: str
    times: int
    reason: str
    headers: dict[str, str]


@dataclass
class Upload:
    """A resumable session."""

    item_id: str | None
    body: dict[str, Any]
    total: int
    received: int = 0
    result: dict[str, Any] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class DriveEmulator:
    """State and faults; `url` is where it listens."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.contents = Path(self._directory.name)
        self.items: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, Upload] = {}
        self.tokens: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.public: set[str] = set()
        self.bytes_up = self.bytes_down = 0
        self.can_write, self.quota, self.page_size, self.slow_seconds = True, 1 << 40, 1000, 1.0
        self.code, self.refresh_token, self.consent = "planted-code", "planted-refresh-token", "drive"
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self.add("root", FOLDER, [], item_id=ROOT)
        emulator = self

        class Handler(DriveHandler):
            drive = emulator

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._directory.cleanup()

    def fail(
        self, kind: int | str, method: str = "", path: str = "", times: int = 1, reason: str = "", **headers: str
    ) -> None:
        self.faults.append(Fault(kind, method, path, times, reason, headers))

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and method.startswith(fault.method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def add(self, title: str, mime: str, parents: list[str], item_id: str | None = None) -> dict[str, Any]:
        """Make an item; each gets a later date than the one before."""
        number = next(self._numbers)
        item_id = item_id or self.new_id()
        self.items[item_id] = {"id": item_id, "title": title, "mimeType": mime, "trashed": False}
        self.items[item_id]["parents"] = [{"id": parent} for parent in parents]
        self.items[item_id]["createdDate"] = self.items[item_id]["modifiedDate"] = self._date(number)
        return self.items[item_id]

    def new_id(self) -> str:
        return f"id{next(self._numbers)}"

    def put_file(self, title: str, parent: str, content: bytes) -> dict[str, Any]:
        item = self.add(title, "application/octet-stream", [parent])
        (self.contents / item["id"]).write_bytes(content)
        return self.describe_content(item)

    def describe_content(self, item: dict[str, Any]) -> dict[str, Any]:
        """Set what follows from the content: size, MD5, date."""
        with (self.contents / item["id"]).open("rb") as file:
            item |= {"md5Checksum": md5_of_stream(file), "fileSize": str(file.tell())}
        item["modifiedDate"] = self._date(next(self._numbers))
        return item

    def begin_upload(self, item_id: str | None, body: dict[str, Any], total: int) -> str:
        upload_id = f"session{len(self.uploads)}"
        self.uploads[upload_id] = Upload(item_id, body, total)
        (self.contents / upload_id).touch()
        return upload_id

    def finish_upload(self, item_id: str | None, body: dict[str, Any], path: Path) -> dict[str, Any]:
        """Give a new or existing item the content at `path`, which is moved."""
        with self.lock:
            if item_id is None:
                parents = [parent["id"] for parent in body["parents"]]
                item_id = self.add(body["title"], "application/octet-stream", parents)["id"]
            path.replace(self.contents / item_id)
            self.items[item_id]["title"] = body.get("title", self.items[item_id]["title"])
            return self.describe_content(self.items[item_id])

    def tree(self) -> dict[str, str]:
        """MD5s by path, of what is not in the trash; two files of one path get a number."""
        found: dict[str, str] = {}
        for item in self.items.values():
            if item["mimeType"] == FOLDER or item["trashed"]:
                continue
            parts, parent = [item["title"]], item["parents"][0]["id"]
            while parent != ROOT:
                parts.insert(0, self.items[parent]["title"])
                parent = self.items[parent]["parents"][0]["id"]
            path = "/".join(parts)
            with (self.contents / item["id"]).open("rb") as file:
                found[path if path not in found else f"{path} ({item['id']})"] = md5_of_stream(file)
        return found

    def issue_token(self, scope: str) -> str:
        token = f"planted-access-token-{next(self._numbers)}"
        self.tokens[token] = scope
        return token

    @staticmethod
    def _date(number: int) -> str:
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=number)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up, which they are made to, or outlived the emulator."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, FileNotFoundError)):
            super().handle_error(request, client_address)
