"""LibriSpeech language models by name, from a server on this machine, and the text encoder that brings one."""

from __future__ import annotations

import gzip
import random
import tempfile
import threading
import unittest
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hw_asr import lm, text  # noqa: F401 - registers the text encoders
from hw_asr.config.registry import TEXT_ENCODERS
from hw_asr.errors import UserError
from hw_asr.lm.librispeech import KNOWN_NAMES, LanguageModelFileError, resolve

ARPA = """\\data\\
ngram 1=4
ngram 2=1

\\1-grams:
-1.5E-01	<UNK>	0
0	<s>	-0.3
-1.2	</s>	0
-0.9	DON'T	-0.2

\\2-grams:
-0.4	<s> DON'T

\\end\\
"""
NAME = "3-gram.pruned.1e-7.arpa"


class _Handler(SimpleHTTPRequestHandler):
    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class ServerTestCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.remote, self.local = Path(directory.name, "remote"), Path(directory.name, "lms")
        self.remote.mkdir()
        (self.remote / f"{NAME}.gz").write_bytes(gzip.compress(ARPA.encode()))
        (self.remote / "librispeech-vocab.txt").write_text("A\nDON'T\n")
        handler = type("Handler", (_Handler,), {"requested": []})
        self.requested: list[str] = handler.requested
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(self.remote)))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}/"


class TestResolve(ServerTestCase):
    def test_a_name_is_downloaded_and_lowercased_once(self) -> None:
        path = resolve(f"lowercase_{NAME}", self.local, self.url)
        self.assertEqual(self.local / f"lowercase_{NAME}", path)
        self.assertEqual(ARPA.lower(), path.read_text())
        path.write_text("kept")
        self.assertEqual("kept", resolve(f"lowercase_{NAME}", self.local, self.url).read_text())
        self.assertEqual([f"/{NAME}.gz"], self.requested)

    def test_both_cases_share_a_download(self) -> None:
        resolve(f"lowercase_{NAME}", self.local, self.url)
        self.assertEqual(ARPA, resolve(NAME, self.local, self.url.rstrip("/")).read_text())
        self.assertEqual(1, len(self.requested))

    def test_vocabulary(self) -> None:
        self.assertEqual("A\nDON'T\n", resolve("librispeech-vocab.txt", self.local, self.url).read_text())
        self.assertEqual("a\ndon't\n", resolve("lowercase_librispeech-vocab.txt", self.local, self.url).read_text())
        self.assertEqual(1, len(self.requested))

    def test_all_published_names_are_known(self) -> None:
        for name in ("3-gram.arpa", "3-gram.pruned.1e-7.arpa", "3-gram.pruned.3e-7.arpa", "librispeech-vocab.txt"):
            self.assertIn(name, KNOWN_NAMES)
            self.assertIn(f"lowercase_{name}", KNOWN_NAMES)

    def test_paths_and_files_in_the_directory_stay_as_they_are(self) -> None:
        self.local.mkdir()
        own = self.local / "own.arpa.gz"
        own.write_bytes(b"x")
        self.assertEqual(own, resolve(str(own), Path("elsewhere"), self.url))
        self.assertEqual(own, resolve("own.arpa.gz", self.local, self.url))
        self.assertEqual([], self.requested)

    def test_unknown_name(self) -> None:
        with self.assertRaisesRegex(LanguageModelFileError, r"'lowercase_3-gram\.arp': no such file.*did you mean"):
            resolve("lowercase_3-gram.arp", self.local, self.url)
        self.assertFalse(self.local.exists())

    def test_damaged_archive_is_removed_and_nothing_half_is_left(self) -> None:
        noise = "".join(random.Random(0).choices("ABC \n", k=100_000)).encode()
        whole = gzip.compress(noise)
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 0xFF
        for name, content in (("cut", whole[: len(whole) // 2]), ("flipped", bytes(flipped)), ("text", b"<html>")):
            with self.subTest(name):
                (self.remote / f"{NAME}.gz").write_bytes(content)
                with self.assertRaisesRegex(LanguageModelFileError, "damaged.*run again"):
                    resolve(NAME, self.local, self.url)
                self.assertEqual([], [path for path in self.local.iterdir() if not path.name.endswith(".lock")])

    def test_missing_on_the_server(self) -> None:
        (self.remote / f"{NAME}.gz").unlink()
        with self.assertRaisesRegex(UserError, "404"):
            resolve(NAME, self.local, self.url)


class TestEncoder(ServerTestCase):
    def spec(self, **args: object) -> dict[str, object]:
        return {"type": "LibrispeechKenLMCTCCharTextEncoder", "args": args}

    def test_as_published(self) -> None:
        spec = self.spec(
            model=f"lowercase_{NAME}",
            models_dirpath=str(self.local),
            alpha=0.8,
            beta=2,
            beam_width=50,
            base_url=self.url,
        )
        self.assertEqual([], TEXT_ENCODERS.check(spec, "text_encoder"))
        encoder = TEXT_ENCODERS.build(spec)
        self.assertEqual([], self.requested)
        self.assertFalse(self.local.exists())
        self.assertEqual((0.8, 2, 50), (encoder.alpha, encoder.beta, encoder.beam_width))
        self.assertEqual("^abcdefghijklmnopqrstuvwxyz ", "".join(encoder.alphabet))
        self.assertEqual([1, 27, 2], encoder.encode("a b"))
        self.assertEqual(ARPA.lower(), encoder.language_model_path().read_text())

    def test_defaults(self) -> None:
        encoder = TEXT_ENCODERS.build(self.spec())
        self.assertEqual("lowercase_3-gram.pruned.1e-7.arpa", encoder.model)
        self.assertEqual((Path("lms"), 0.5, 1.0, 100), (
            encoder.models_dirpath, encoder.alpha, encoder.beta, encoder.beam_width
        ))  # fmt: skip

    def test_wrong_values(self) -> None:
        for args, message in (
            ({"alpha": float("nan")}, "^alpha: expected a finite number, got nan"),
            ({"alpha": -1}, "^alpha"),
            ({"beta": float("inf")}, "^beta"),
            ({"beam_width": 0}, "^beam_width: expected at least 1, got 0"),
            ({"model": ""}, "^model"),
            ({"alphabet": "aa"}, "^alphabet"),
        ):
            with self.subTest(args), self.assertRaisesRegex(ValueError, message):
                TEXT_ENCODERS.build(self.spec(**args))


if __name__ == "__main__":
    unittest.main()
