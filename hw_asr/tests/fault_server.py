"""A real HTTP server on loopback that serves files with ranges, and misbehaves on demand."""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultServer(ThreadingHTTPServer):
    """Serves `files` (path to content); each request to a path consumes one of its `faults`.

    Faults: an int n: close after n bytes; "404", "503", ...: that status; "busy": 503 with Retry-After; "long":
    announce ten bytes too many; "less": half of the range; "page": a web page instead; "no range": ignore the range;
    "wrong range": another one; "chunked": announce no length; "endless": nor end. A path in `redirects` is redirected.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[str | int]] = defaultdict(list)
        self.redirects: dict[str, str] = {}
        self.with_tags = True
        self.requests: list[tuple[str, str]] = []
        self.num_bytes = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        with server.lock:
            server.requests.append((self.path, asked))
            faults = server.faults[self.path]
            fault = faults.pop(0) if faults else None
        path = self.path.partition("?")[0]
        if path in server.redirects:
            return self.answer(302, b"", {"Location": server.redirects[path]})
        body = server.files.get(self.path)
        if fault in ("chunked", "endless") and body is not None:
            return self.stream(body, endless=fault == "endless")
        if body is None or (isinstance(fault, str) and (fault.isdigit() or fault == "busy")):
            status = 404 if body is None else 503 if fault == "busy" else int(fault or 0)
            return self.answer(status, b"sorry", {"Retry-After": "0"} if fault == "busy" else {})
        if fault == "page":
            return self.answer(200, b"<html>please log in</html>", {})
        tag = {"ETag": f'"{hash(body)}"'} if server.with_tags else {}
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        is_same = self.headers.get("If-Range", tag.get("ETag")) == tag.get("ETag")
        if match and is_same and fault != "no range":
            start = int(match[1]) // 2 if fault == "wrong range" else int(match[1])
            if start >= len(body):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            end = (start + len(body)) // 2 if fault == "less" else len(body)
            tag["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
            return self.answer(206, body[start:end], tag, fault)
        return self.answer(200, body, tag, fault)

    def answer(self, status: int, body: bytes, headers: dict[str, str], fault: str | int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (10 if fault == "long" else 0)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[:fault] if isinstance(fault, int) else body
        self.wfile.write(sent)
        with self.server.lock:
            self.server.num_bytes += len(sent)

    def stream(self, body: bytes, *, endless: bool) -> None:
        """Answer without a length: the body once, or again and again until the client hangs up."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
        while endless:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    """Run a server until the block ends."""
    with FaultServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
