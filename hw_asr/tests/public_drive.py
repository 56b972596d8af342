"""An emulator of the pages by which Google Drive shows and gives away what is shared by link, on a loopback port."""

from __future__ import annotations

import html
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import requests

VIEW, DRIVE, CONTENT = "https://drive.google.com/file/d", "https://drive.google.com", "drive.usercontent.google.com"
_SCANNED_BYTES = 1000
"""Larger files get a page that asks for confirmation, because they are not scanned for viruses."""


class PublicDrive(ThreadingHTTPServer):
    """Folders and files by id; `faults` are used up by downloads of content: a number of bytes to send, or "quota"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders: dict[str, dict[str, str]] = {}
        self.titles: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.faults: list[int | str] = []
        self.requests: list[str] = []

    def folder(self, children: dict[str, Any], title: str = "shared") -> str:
        """Add a folder of files (bytes) and folders (dicts) by name; return its id."""
        folder_id = self._new_id()
        self.folders[folder_id], self.titles[folder_id] = {}, title
        for name, child in children.items():
            if isinstance(child, dict):
                child_id = self.folder(child, name)
            else:
                child_id = self._new_id()
                self.files[child_id] = child
            self.folders[folder_id][child_id] = name
        return folder_id

    def _new_id(self) -> str:
        return f"{len(self.folders) + len(self.files):0>33}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: PublicDrive

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        host, _, path = url.path.lstrip("/").partition("/")
        self.server.requests.append(f"{host}/{path}")
        if path == "embeddedfolderview":
            self._folder(query["id"])
        elif query.get("id") not in self.server.files:
            self._page("<p>Sorry, unable to open the file at this time.</p>", 404)
        elif path == "uc":
            self._confirm(query["id"])
        else:
            self._content(self.server.files[query["id"]])

    def _folder(self, folder_id: str) -> None:
        if folder_id not in self.server.folders:
            self._page("<title>Error</title>", 404)
            return
        links = [
            f'<a href="{DRIVE}/drive/folders/{key}">{html.escape(name)}</a>'
            if key in self.server.folders
            else f'<a href="{VIEW}/{key}/view?usp=drive_web">{html.escape(name)}</a>'
            for key, name in self.server.folders[folder_id].items()
        ]
        self._page(f"<title>{html.escape(self.server.titles[folder_id])}</title>" + "".join(links))

    def _confirm(self, file_id: str) -> None:
        if self.server.faults[:1] == ["quota"]:
            self.server.faults.pop(0)
            text = "Too many users have viewed or downloaded this file recently. Please try again later."
            self._page(f'<p class="uc-error-subcaption">{text}</p>')
        elif len(self.server.files[file_id]) <= _SCANNED_BYTES:
            self.send_response(303)
            self.send_header("Location", f"https://{CONTENT}/download?id={file_id}&export=download")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            hidden = "".join(
                f'<input type="hidden" name="{name}" value="{value}">'
                for name, value in (("id", file_id), ("export", "download"), ("confirm", "t"), ("uuid", "1"))
            )
            self._page(f'<form id="download-form" action="https://{CONTENT}/download" method="get">{hidden}</form>')

    def _content(self, content: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(match[1]) if match else 0
        fault = self.server.faults.pop(0) if self.server.faults else len(content)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="x"')
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : first + int(fault)])

    def _page(self, body: str, status: int = 200) -> None:
        content = f"<html><body>{body}</body></html>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _ToLoopback(requests.adapters.HTTPAdapter):
    """Sends requests for Google's hosts to the emulator, as a name server could."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = urllib.parse.urlsplit(str(request.url))
        request.url = f"http://127.0.0.1:{self._port}/{url.netloc}{url.path}?{url.query}"
        return super().send(request, *args, **options)


@contextmanager
def public_drive() -> Iterator[PublicDrive]:
    """Run an emulator, to which gdown is led, until the block ends."""
    with PublicDrive() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        adapter = _ToLoopback(server.server_port)
        try:
            with mock.patch.object(requests.Session, "get_adapter", lambda session, url: adapter):
                yield server
        finally:
            server.shutdown()
            thread.join()
