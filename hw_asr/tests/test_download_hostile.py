"""Servers with impossible headers: an error of the download, or a header that is ignored; never a traceback."""

from __future__ import annotations

import contextlib
import socket
import threading
from unittest import mock

from hw_asr.runtime import download as module
from hw_asr.runtime.download import DownloadError, download
from hw_asr.tests.test_download import DownloadCase


class TestHostileServers(DownloadCase):
    def answers(self, response: bytes) -> str:
        """Return the address of a server that sends these bytes to everyone who asks."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(response)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/f"

    def test_impossible_headers_are_an_error_of_the_download(self) -> None:
        for header, words in (
            (b"404 x\r\nRetry-After: " + b"9" * 5000, "404 x; check the address"),
            (b"404 \x1b]0;a\x07" + b"x" * 9000, "^.{,400}$"),
            (b"503 x\r\nRetry-After: \xb2", "503 x, 2 times in a row"),
            (b"302 x\r\nLocation: http://[::1", "not a valid address"),
            (b"302 x\r\nLocation: http://a b\x01/", "not a valid address|not followed|no connection"),
            (b"416 x\r\nContent-Range: bytes */0", "416 x, 2 times in a row|check the address"),
            (b"206 x\r\nContent-Range: bytes 7-9/10", "another range than the one requested, 2 times"),
        ):
            with (
                self.subTest(header[:40]),
                mock.patch.object(module, "ATTEMPTS", 2),
                self.assertRaisesRegex(DownloadError, words),
            ):
                download(self.answers(b"HTTP/1.1 " + header + b"\r\n\r\n"), self.path)
        for length in (b"9" * 5000, b"\xb2", b"-5"):  # not stated, as far as the download is concerned
            self.path.unlink(missing_ok=True)
            url = self.answers(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nbody")
            self.assertEqual(download(url, self.path).read_bytes(), b"body")
        with self.assertRaisesRegex(DownloadError, "not a valid address"):
            download("http://[::1/f", self.path.with_name("other"))
