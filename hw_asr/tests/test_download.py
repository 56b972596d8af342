"""Downloads from a real server on loopback that drops, lies, stalls and refuses."""

import errno
import hashlib
import io
import logging
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from unittest import mock

from hw_asr.runtime import download as module
from hw_asr.runtime import download_attempt, receiving
from hw_asr.runtime.download import DownloadError, download
from hw_asr.runtime.web import RedirectError, _SafeRedirects
from hw_asr.tests.fault_server import fault_server
from hw_asr.tests.waiting import DEADLINE, wait_until

ROOT = Path(__file__).resolve().parents[2]
BODY = random.Random(0).randbytes(3_000_000)
MD5 = hashlib.md5(BODY).hexdigest()


class DownloadCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "new" / "file.bin"
        self.part = self.path.with_name("file.bin.part")
        context = fault_server()
        self.server = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.server.files["/f"] = BODY
        self.url = f"{self.server.url}/f"
        for place, name, value in ((module, "BACK_OFF_SECONDS", 0.001), (download_attempt, "TIME_OUT_SECONDS", 2.0)):
            patch = mock.patch.object(place, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir() if not path.name.endswith(".lock"))

    def assert_whole(self) -> None:
        self.assertEqual(self.path.read_bytes(), BODY)
        self.assertEqual(self.left(), ["file.bin"])


class TestDownload(DownloadCase):
    def test_a_file_is_fetched_once(self) -> None:
        self.assertEqual(download(self.url, self.path, md5=MD5, size=len(BODY)), self.path)
        self.assert_whole()
        download(self.url, self.path, md5=MD5, size=len(BODY))
        self.assertEqual(len(self.server.requests), 1)

    def test_dropped_connections_are_resumed_by_range(self) -> None:
        self.server.faults["/f"] = [1_000_000, 500_000, 700_000]
        download(self.url, self.path, sha256=hashlib.sha256(BODY).hexdigest())
        self.assert_whole()
        self.assertEqual([asked for _, asked in self.server.requests],
                         ["", "bytes=1000000-", "bytes=1500000-", "bytes=2200000-"])  # fmt: skip
        self.assertEqual(self.server.num_bytes, len(BODY))

    def test_less_than_the_range_is_not_the_whole(self) -> None:
        self.server.faults["/f"] = [1_000_000, "less", "less"]
        download(self.url, self.path)
        self.assert_whole()
        self.assertEqual([asked for _, asked in self.server.requests],
                         ["", "bytes=1000000-", "bytes=2000000-", "bytes=2500000-"])  # fmt: skip

    def test_any_number_of_drops_while_bytes_arrive(self) -> None:
        self.server.faults["/f"] = [100_000] * 25
        download(self.url, self.path)
        self.assert_whole()

    def test_temporary_faults(self) -> None:
        for faults in (
            ["503", "busy", "500"],
            ["long"],
            ["page"],
            [1000, "no range"],
            [9000, "wrong range"],
            [0, 0, 0, 0],
        ):
            with self.subTest(faults):
                self.server.faults["/f"] = list(faults)
                download(self.url, self.path, md5=MD5)
                self.assert_whole()
                self.path.unlink()

    def test_permanent_faults_are_explained(self) -> None:
        for fault, words in (
            ("404", "answers 404"),
            ("403", "answers 403"),
            ("503", "answers 503.*6 times in a row"),
            ("page", "web page"),
            (0, "3000000 bytes early"),
        ):
            with self.subTest(fault):
                self.server.faults["/f"] = [fault] * 60
                with self.assertRaisesRegex(DownloadError, f"{self.url}.*{words}"):
                    download(self.url, self.path, md5=MD5)
                self.assertFalse(self.path.exists())

    def test_a_length_that_differs_from_the_known_one(self) -> None:
        with self.assertRaisesRegex(DownloadError, "announces 3000000 bytes, expected 5"):
            download(self.url, self.path, size=5)

    def test_a_wrong_body_is_not_kept(self) -> None:
        with self.assertRaisesRegex(DownloadError, "md5.*nothing was kept"):
            download(self.url, self.path, md5="0" * 32)
        self.assertEqual(self.left(), [])
        self.assertEqual(len(self.server.requests), 2)

    def test_parts_of_two_versions_are_not_joined(self) -> None:
        for with_tags in (True, False):
            self.server.with_tags = with_tags
            self.server.files["/f"], self.server.faults["/f"] = bytes(len(BODY)), [1_000_000, "404"]
            with self.assertRaises(DownloadError):
                download(self.url, self.path)
            self.server.files["/f"] = BODY
            download(self.url, self.path)
            self.assert_whole()
            self.path.unlink()

    def test_a_stale_part_with_a_checksum(self) -> None:
        for stale in (BODY[:1000], b"x" * 1000, BODY, BODY + b"more"):
            self.path.parent.mkdir(exist_ok=True)
            self.part.write_bytes(stale)
            download(self.url, self.path, md5=MD5)
            self.assert_whole()
            self.path.unlink()

    def test_a_whole_part_needs_no_transfer(self) -> None:
        self.path.parent.mkdir()
        self.part.write_bytes(BODY)
        download(self.url, self.path, md5=MD5)
        self.assertEqual(self.server.num_bytes, 0)

    def test_bodies_that_are_longer_than_announced_or_endless(self) -> None:
        self.server.faults["/f"] = ["chunked"] * 20
        with self.assertRaisesRegex(DownloadError, "more than 1000000 bytes that it announced"):
            download(self.url, self.path, size=1_000_000)
        self.assertFalse(self.path.exists())
        with mock.patch.object(receiving, "MAX_UNDECLARED_BYTES", 2_000_000):
            self.server.faults["/f"] = ["endless"]
            with self.assertRaisesRegex(DownloadError, "more than 2000000 bytes, and announces no end"):
                download(self.url, self.path)
        self.assertEqual(0, self.part.stat().st_size)
        with self.assertRaisesRegex(DownloadError, "3000000 bytes, expected at most 2000000"):
            download(self.url, self.path, limit=2_000_000)
        self.server.faults["/f"] = ["chunked"]
        download(self.url, self.path, md5=MD5)
        self.assert_whole()

    def test_a_server_that_sends_too_slowly(self) -> None:
        slow = [mock.patch.object(place, "SLOW_BYTES", 1 << 30) for place in (receiving, module)]
        with mock.patch.object(receiving, "SLOW_SECONDS", 0.0), slow[0], slow[1]:
            self.server.faults["/f"] = ["endless"] * 6
            with self.assertRaisesRegex(DownloadError, "less than 1073741824 bytes in 0 s, 6 times in a row"):
                download(self.url, self.path)

    def test_redirects_lead_to_https_or_to_the_same_host_by_http_only(self) -> None:
        self.server.redirects["/moved"] = self.url
        download(f"{self.server.url}/moved", self.path, md5=MD5)
        self.assert_whole()
        self.path.unlink()
        words = "redirected|answers 302|not a valid address"
        secret = "ftp://user:planted@127.0.0.1/f?token=planted"
        for target in (secret, "file:///etc/passwd", "data:text/plain,x", f"http://localhost:{self.server.server_port}/f",
                       "gopher://user:planted@x/", f"http://user:planted@127.0.0.1:{self.server.server_port}/f",
                       "https://user:planted@127.0.0.1/f"):  # fmt: skip
            self.server.redirects["/moved"] = target
            with self.subTest(target), self.assertRaisesRegex(DownloadError, words) as caught:
                download(f"{self.server.url}/moved?sig=planted", self.path)
            self.assertNotIn("planted", str(caught.exception))
            self.assertFalse(self.path.exists())
        request = urllib.request.Request("https://127.0.0.1/f")
        with self.assertRaises(RedirectError):
            _SafeRedirects().redirect_request(request, io.BytesIO(), 302, "", HTTPMessage(), "http://127.0.0.1/f")

    def test_links_in_the_place_of_partial_files_are_removed(self) -> None:
        victim = self.path.parent.parent / "victim"
        victim.write_text("precious")
        self.path.parent.mkdir()
        for place in (self.part, self.part.with_name("file.bin.part.version")):
            place.symlink_to(victim)
        download(self.url, self.path, md5=MD5)
        self.assert_whole()
        self.assertEqual("precious", victim.read_text())

    def test_no_server(self) -> None:
        with self.assertRaisesRegex(DownloadError, "no connection.*refused"):
            download("http://127.0.0.1:1/f", self.path)
        with self.assertRaisesRegex(DownloadError, "only http"):
            download("file:///etc/passwd", self.path)

    def test_a_password_in_an_address_is_not_shown(self) -> None:
        """Neither it nor an address with blanks is tried again."""
        for url in (f"http://user:planted@127.0.0.1:{self.server.server_port}/f", f"{self.url} planted"):
            with self.assertRaisesRegex(DownloadError, "not a valid address; expected one without") as caught:
                download(url, self.path)
            self.assertNotIn("user:", str(caught.exception))
            self.assertNotIn("times in a row", str(caught.exception))
        self.assertEqual(self.server.requests, [])

    def test_a_server_that_stalls(self) -> None:
        self.server.faults["/f"] = [1000]
        kept_open: list[socket.socket] = []
        stall = mock.patch.object(type(self.server), "shutdown_request", lambda _, request: kept_open.append(request))
        with mock.patch.object(download_attempt, "TIME_OUT_SECONDS", 0.2), stall:
            download(self.url, self.path, md5=MD5)
        for connection in kept_open:
            connection.close()
        self.assert_whole()

    def test_disk_full(self) -> None:
        no_room = mock.patch.object(download_attempt.shutil, "disk_usage", return_value=mock.Mock(free=1_000_000))
        with no_room, self.assertRaisesRegex(DownloadError, "disk has 0.00 GB free"):
            download(self.url, self.path)
        real_open = receiving.open_regular

        def full(path: Path, mode: str) -> object:
            file = mock.MagicMock(wraps=real_open(path, mode))
            file.__enter__.return_value = file
            file.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
            return file

        with mock.patch.object(receiving, "open_regular", full), self.assertRaisesRegex(DownloadError, "disk is full"):
            download(self.url, self.path)
        download(self.url, self.path)
        self.assert_whole()

    def test_a_directory_that_cannot_be_written(self) -> None:
        self.path.parent.write_text("a file, so that not even root can write below it")
        with self.assertRaisesRegex(DownloadError, "cannot be written"):
            download(self.url, self.path)


class TestProcesses(DownloadCase):
    def start(self) -> subprocess.Popen[str]:
        program = (
            "import sys; from pathlib import Path; from hw_asr.runtime.download import download;"
            f"download({self.url!r}, Path({str(self.path)!r}), md5={MD5!r}); print('torch' in sys.modules)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def test_two_processes_transfer_once_and_without_torch(self) -> None:
        both = [self.start(), self.start()]
        for process in both:
            out, error = process.communicate(timeout=DEADLINE)
            self.assertEqual((out.strip(), process.returncode), ("False", 0), error)
        self.assert_whole()
        self.assertEqual(self.server.num_bytes, len(BODY))

    def test_killed_and_interrupted_downloads_are_resumed(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)
        real_answer = self.server.RequestHandlerClass.answer

        def slow(handler: object, status: int, body: bytes, *rest: object) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            for name, value in rest[0].items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body[:1_000_000])
            gate.wait()

        for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, -signal.SIGINT)):
            with mock.patch.object(self.server.RequestHandlerClass, "answer", slow):
                process = self.start()
                before = self.part.stat().st_size if self.part.exists() else 0
                wait_until(lambda before=before: self.part.exists() and self.part.stat().st_size > before)
                process.send_signal(number)
                _, error = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, expected, error)
            self.assertFalse(self.path.exists())
        self.assertIs(self.server.RequestHandlerClass.answer, real_answer)
        have = self.part.stat().st_size
        download(self.url, self.path, md5=MD5)
        self.assert_whole()
        self.assertEqual(self.server.num_bytes, len(BODY) - have)


if __name__ == "__main__":
    unittest.main()
