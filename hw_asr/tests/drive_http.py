"""The HTTP side of the Drive emulator: requests to what they do, and the faults on the way."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_asr.tests.drive_query import parse

if TYPE_CHECKING:
    from hw_asr.tests.drive_emulator import DriveEmulator, Upload

GRANULE = 256 << 10
BLOCK = 64 << 10
READ_ONLY_SCOPE = "https://www.googleapis.com/auth/drive.readonly"


class DriveHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets; the second must not wait
    drive: DriveEmulator

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

    def _route(self) -> None:
        self.unread = int(self.headers.get("Content-Length", 0))
        url = urllib.parse.urlsplit(self.path)
        self.query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        path = urllib.parse.unquote(url.path)
        self.drive.requests.append(f"{self.command} {path}")
        self.fault = self.drive.take_fault(self.command, path)
        if self._is("slow"):
            time.sleep(self.drive.slow_seconds)
        if self.fault is not None and isinstance(self.fault.kind, int):
            self._error(self.fault.kind, self.fault.reason, self.fault.headers)
        elif path == "/token":
            self._token()
        else:
            self._authorized(path)

    def _authorized(self, path: str) -> None:
        scope = self.drive.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if path.rpartition("/")[2] in self.drive.public:
            self._files(path.rpartition("/")[2])
        elif scope is None:
            self._error(401, "authError")
        elif self.command != "GET" and (scope == READ_ONLY_SCOPE or not self.drive.can_write):
            self._error(403, "insufficientPermissions")
        elif path.startswith("/upload/"):
            self._upload(path.removeprefix("/upload/drive/v2/files").strip("/") or None)
        elif path == "/drive/v2/about":
            quota = {"quotaType": "LIMITED", "quotaBytesTotal": str(self.drive.quota), "quotaBytesUsedAggregate": "0"}
            self._json({"user": {"emailAddress": "robot@example.com"}, **quota})
        else:
            self._files(path.removeprefix("/drive/v2/files").strip("/"))

    def _files(self, item_id: str) -> None:
        if not item_id:
            (self._list if self.command == "GET" else self._insert_folder)()
            return
        if item_id == "generateIds":
            self._json({"ids": [self.drive.new_id() for _ in range(int(self.query["maxResults"]))]})
            return
        item = self.drive.items.get(item_id.removesuffix("/trash").removesuffix("/copy"))
        if item is None:
            self._error(404, "notFound")
            return
        if self.query.get("alt") == "media":
            self._content(item)
            return
        if item_id.endswith("/copy"):
            self._copy(item)
            return
        if item_id.endswith("/trash"):
            item["trashed"] = True
        elif self.command != "GET":
            item |= self._body_json()
        labels = {"trashed": item["trashed"]}
        self._json({**item, "labels": labels, "capabilities": {"canAddChildren": self.drive.can_write}})

    def _insert_folder(self) -> None:
        body = self._body_json()
        with self.drive.lock:
            if body.get("id") in self.drive.items:
                self._error(409)
                return
            parents = [parent["id"] for parent in body["parents"]]
            item = self.drive.add(body["title"], body["mimeType"], parents, body.get("id"))
        self._json(item)

    def _copy(self, item: dict[str, Any]) -> None:
        body = self._body_json()
        with self.drive.lock:
            if body.get("id") in self.drive.items:
                self._error(409)
                return
            parents = [parent["id"] for parent in body["parents"]]
            copied = self.drive.add(body["title"], item["mimeType"], parents, body.get("id"))
            shutil.copyfile(self.drive.contents / item["id"], self.drive.contents / copied["id"])
            self.drive.describe_content(copied)
        self._json(copied)

    def _list(self) -> None:
        try:
            matches = parse(self.query["q"])
        except (ValueError, IndexError):
            self._error(400, "invalid")
            return
        with self.drive.lock:
            found = [item for item in self.drive.items.values() if matches(item)]
        size = min(self.drive.page_size, int(self.query.get("maxResults", 100)))
        start = int(self.query.get("pageToken", 0))
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        self._json({"items": found[start : start + size], **more})

    def _content(self, item: dict[str, Any]) -> None:
        size = int(item["fileSize"])
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), min(int(match[2]), size - 1)) if match else (0, size - 1)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        end = first + (last - first + 1) // 2 if self._is("cut") else last + 1
        with (self.drive.contents / item["id"]).open("rb") as file:
            file.seek(first)
            while file.tell() < end:
                block = file.read(min(BLOCK, end - file.tell()))
                if self._is("damaged"):
                    block, self.fault = bytes([block[0] ^ 1]) + block[1:], None
                self.wfile.write(block)
                self.drive.bytes_down += len(block)
        if self._is("cut"):
            self.close_connection = True

    def _upload(self, item_id: str | None) -> None:
        if "upload_id" in self.query:
            self._chunk(self.query["upload_id"])
            return
        if item_id is not None and item_id not in self.drive.items:
            self._error(404, "notFound")
            return
        if self.query["uploadType"] == "multipart":
            self._multipart(item_id)
            return
        upload_id = self.drive.begin_upload(item_id, self._body_json(), int(self.headers["X-Upload-Content-Length"]))
        location = f"{self.drive.url}upload/drive/v2/files?uploadType=resumable&upload_id={upload_id}"
        self._reply(200, b"", {"Location": location})

    def _chunk(self, upload_id: str) -> None:
        with self.drive.uploads[upload_id].lock:
            self._piece(self.drive.uploads[upload_id], self.drive.contents / upload_id)

    def _piece(self, upload: Upload, content: Path) -> None:
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", self.headers.get("Content-Range", "bytes */0"))
        if match is None or int(match[3]) != upload.total:
            self._error(400, "invalid")
            return
        if match[1] is not None:
            last_one = int(match[2]) + 1 == upload.total
            if int(match[1]) != upload.received or not (last_one or self.unread % GRANULE == 0):
                self._error(400, "invalid")
                return
            self._store(upload, content)
            if self.close_connection:
                return
        if upload.received == upload.total and upload.result is None:
            upload.result = self.drive.finish_upload(upload.item_id, upload.body, content)
        if upload.result is not None:
            self._json(upload.result)
            return
        self._reply(308, b"", {"Range": f"bytes=0-{upload.received - 1}"} if upload.received else {})

    def _store(self, upload: Upload, path: Path) -> None:
        cut = self._is("cut")
        keep = self.unread // 2 // GRANULE * GRANULE if cut else self.unread
        with path.open("r+b") as file:
            file.seek(upload.received)
            while keep:
                block = self._read(min(BLOCK, keep))
                keep -= len(block)
                if self._is("damaged"):
                    block, self.fault = bytes([block[0] ^ 1]) + block[1:], None
                file.write(block)
            upload.received = file.tell()
        self.close_connection = self.close_connection or cut

    def _multipart(self, item_id: str | None) -> None:
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        assert boundary is not None
        parts = self._read(self.unread).split(b"--" + boundary[1].encode())
        metadata, media = (part.partition(b"\n\n")[2].removesuffix(b"\n") for part in parts[1:3])
        path = self.drive.contents / "multipart"
        path.write_bytes(media)
        self._json(self.drive.finish_upload(item_id, json.loads(metadata), path))

    def _token(self) -> None:
        form = {key: values[0] for key, values in urllib.parse.parse_qs(self._read(self.unread).decode()).items()}
        grant = form["grant_type"]
        if grant.endswith("jwt-bearer"):
            payload = form["assertion"].split(".")[1]
            scope = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["scope"]
        elif grant == "authorization_code" and form["code"] == self.drive.code:
            scope = self.drive.consent = form["scope"]
        elif grant == "refresh_token" and form["refresh_token"] == self.drive.refresh_token:
            scope = self.drive.consent
        else:
            described = {"error": "invalid_grant", "error_description": f"no grant for {form}"}
            self._reply(400, json.dumps(described).encode(), {"Content-Type": "application/json"})
            return
        reply = {"access_token": self.drive.issue_token(scope), "expires_in": 3600, "token_type": "Bearer"}
        self._json({**reply, "refresh_token": self.drive.refresh_token})

    def _is(self, kind: str) -> bool:
        return self.fault is not None and self.fault.kind == kind

    def _read(self, size: int) -> bytes:
        block = self.rfile.read(min(size, self.unread))
        self.unread -= len(block)
        self.drive.bytes_up += len(block)
        return block

    def _body_json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._read(self.unread) or b"{}")
        return body

    def _error(self, status: int, reason: str = "", headers: dict[str, str] | None = None) -> None:
        told = f"you sent {self.headers.get('Authorization')}"  # an error that quotes the request, secrets and all
        error = {"code": status, "message": told, "errors": [{"reason": reason, "message": told}]}
        self._reply(status, json.dumps({"error": error}).encode(), headers or {})

    def _json(self, value: dict[str, Any]) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        while self.unread:
            self._read(BLOCK)
        if self._is("lost"):
            self.close_connection = True
            return
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
