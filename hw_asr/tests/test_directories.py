"""Finding files: their order, links that lead nowhere or in a circle, directories that cannot be opened."""

import errno
import logging
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from hw_asr.datasets import directories as module
from hw_asr.datasets.directories import files_under, fingerprint
from hw_asr.datasets.folder import list_folder
from hw_asr.tests.corpus_trees import noise


class TestFilesUnder(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.data = self.root / "data"
        for number in range(5):
            noise(self.data / f"sub{number % 2}" / f"{number}.wav", 0.1)
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)

    def test_files_are_found_in_the_order_of_their_names(self) -> None:
        for name in ("sub0.wav", "sub/b.WAV", "sub/a.wav", "sub/a/z.wav", ".hidden/x.wav", "sub/.x.wav", "sub/a.txt"):
            path = self.root / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (self.root / "tree/gone.wav").symlink_to("nowhere.wav")
        (self.root / "tree/sub/up").symlink_to("..")
        (self.root / "tree/two").symlink_to(self.data / "sub1")
        found = [path.relative_to(self.root / "tree").as_posix() for path in files_under(self.root / "tree", ".wav")]
        expected = ["sub/a/z.wav", "sub/a.wav", "sub/b.WAV", "sub0.wav", "two/1.wav", "two/3.wav"]
        self.assertEqual(found, expected)

    def test_links_that_cannot_be_followed_are_skipped(self) -> None:
        (self.data / "circle.wav").symlink_to("circle.wav")
        logging.disable(logging.NOTSET)
        with self.assertLogs("hw_asr", "WARNING") as log:
            self.assertEqual(len(files_under(self.data)), 5)
        self.assertIn("circle.wav: skipped, it cannot be opened: Too many levels", log.output[0])
        self.assertEqual(fingerprint(self.data), fingerprint(self.data))

    def test_a_directory_that_cannot_be_opened_is_skipped(self) -> None:
        closed, opened = self.data / "sub0", os.open

        def refusing(path: Path, *args: int) -> int:
            if path == closed / "":  # what root would be let into
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return opened(path, *args)

        logging.disable(logging.NOTSET)
        with mock.patch.object(os, "open", refusing), self.assertLogs("hw_asr", "WARNING") as log:
            self.assertEqual(len(files_under(self.data, ".wav")), 2)
        self.assertIn(f"{closed}: skipped, it cannot be opened: Permission denied", log.output[0])

    def test_without_descriptors_of_directories(self) -> None:
        """As on Windows."""
        expected, digest = files_under(self.data), fingerprint(self.data)
        with mock.patch.object(module, "_BY_DESCRIPTOR", False), mock.patch.object(os, "open", side_effect=OSError):
            self.assertEqual((files_under(self.data), fingerprint(self.data)), (expected, digest))

    @unittest.skipUnless(hasattr(os, "fork") and os.geteuid() == 0, "needs root, to become another user")
    def test_what_another_user_may_not_enter(self) -> None:
        """Neither a link to a file in such a directory nor a directory of transcripts ends the work on the rest."""
        self.root.chmod(0o755)
        texts, private = self.root / "texts", self.root / "private"
        for path in (texts, private):
            path.mkdir(mode=0o700)
            noise(path / "a.wav", 0.1)
        (self.data / "a.wav").symlink_to(private / "a.wav")
        child = os.fork()
        if not child:
            status = 1
            try:
                os.setuid(65534)
                found = list_folder(self.data, texts).utterances
                status = 0 if len(found) == 5 and fingerprint(self.data) else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


if __name__ == "__main__":
    unittest.main()
