"""Writing follows no links and guesses no names: victims of planted links keep their content."""

from __future__ import annotations

import os
import stat
import tempfile
import unittest
from pathlib import Path

from hw_asr.checkpoints.writing import link_checkpoint, save_checkpoint
from hw_asr.runtime.atomic_files import OWNER_ONLY, open_regular, write_and_rename
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.file_lock import hold
from hw_asr.storage.run_names import RunId
from hw_asr.storage.runs import Run
from hw_asr.tests.training_case import TrainingCase, run_dir
from hw_asr.writers.jsonl import JsonlWriter


@unittest.skipUnless(os.name == "posix", "links and modes of POSIX")
class LinksTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.victim = self.folder / "diary.txt"
        self.victim.write_text("precious\n")
        self.path = self.folder / "place"

    def links(self) -> list[str]:
        """What can be planted in the place of a file."""
        return ["link", "second name", "dangling link", "pipe"]

    def plant(self, kind: str) -> None:
        self.path.unlink(missing_ok=True)
        if kind == "link":
            self.path.symlink_to(self.victim)
        elif kind == "second name":
            self.path.hardlink_to(self.victim)
        elif kind == "dangling link":
            self.path.symlink_to(self.folder / "planted")
        else:
            os.mkfifo(self.path)

    def assert_untouched(self) -> None:
        self.assertEqual("precious\n", self.victim.read_text())
        self.assertFalse((self.folder / "planted").exists())

    def test_the_longest_names(self) -> None:
        for name in ("x" * 255, "\u0436" * 127):
            with write_and_rename(self.folder / name, "w") as file:
                file.write("content")
            self.assertEqual((self.folder / name).read_text(), "content")

    def test_directories_and_devices_are_not_replaced(self) -> None:
        for path, error in (
            (self.folder, IsADirectoryError),
            (Path(os.devnull), OSError),
            (Path("/dev/stdout"), OSError),
        ):
            with self.subTest(path=path), self.assertRaises(error) as caught, write_and_rename(path):
                self.fail("opened")
            self.assertEqual(str(path), caught.exception.filename)

    def test_a_lock(self) -> None:
        for kind in self.links():
            with self.subTest(kind):
                self.plant(kind)
                with self.assertRaisesRegex(OSError, "remove it") as caught, hold(self.path):
                    pass
                self.assertEqual(str(self.path.parent.resolve() / "place"), caught.exception.filename)
                self.assert_untouched()

    def test_a_lock_names_its_holder(self) -> None:
        for _ in range(2):
            with hold(self.path):
                self.assertEqual(1, self.path.read_text().count(f"process {os.getpid()} on "))

    def test_an_output_replaces_a_link_and_not_its_target(self) -> None:
        for kind in self.links():
            with self.subTest(kind):
                self.plant(kind)
                with write_and_rename(self.path, "w") as file:
                    file.write("new")
                self.assertEqual("new", self.path.read_text())
                self.assertFalse(self.path.is_symlink())
                self.assert_untouched()

    def test_names_of_temporary_files_are_random_and_exclusive(self) -> None:
        names = set()
        for _ in range(3):
            with write_and_rename(self.path) as file:
                names.add(Path(file.name).name)
                self.assertTrue(Path(file.name).is_file())
        self.assertEqual(3, len(names))
        self.assertTrue(all(name.startswith(".place.") and name.endswith(".part") for name in names))

    def test_files_with_secrets_are_their_owner_s_from_the_first_moment(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        with write_and_rename(self.path, "w", OWNER_ONLY) as file:
            self.assertEqual(0o600, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_files_that_grow(self) -> None:
        for kind in ("link", "dangling link", "pipe"):
            with self.subTest(kind):
                self.plant(kind)
                for make in (lambda: open_regular(self.path, "a"), lambda: open_regular(self.path, "wb"),
                             lambda: set_up_logging(0, self.path)):  # fmt: skip
                    with self.assertRaisesRegex(OSError, "is a link or not a regular file"):
                        make()
                self.assert_untouched()
        self.plant("link")
        with self.assertRaises(OSError):
            JsonlWriter(self.path)
        self.assert_untouched()

    def test_another_name_of_a_checkpoint(self) -> None:
        source = self.folder / "last.pth"
        save_checkpoint({"state_dict": {}}, source)
        for planted in (".place.part", "place"):
            (self.folder / planted).symlink_to(self.victim)
        for _ in range(2):  # the second time, both names are those of one file already
            link_checkpoint(source, self.path)
            self.assertTrue(self.path.samefile(source))
            self.assertEqual([], [path.name for path in self.folder.glob(".place.*") if path.name != ".place.part"])
        self.assert_untouched()

    def test_a_run_s_lock(self) -> None:
        run = Run.below(self.folder / "models", RunId("a", "b"))
        run.model_dir.mkdir(parents=True)
        (run.model_dir / ".lock").symlink_to(self.victim)
        with self.assertRaises(OSError), run.lock():
            pass
        self.assert_untouched()


class TrainingTest(TrainingCase):
    def test_training_in_a_directory_with_planted_links_is_one_line(self) -> None:
        place = self.place(self.config(epochs=1, len_epoch=2))
        self.train(place, "-c", "config.json")
        victim = place / "diary.txt"
        victim.write_text("precious\n")
        last, log = str(run_dir(place) / "last.pth"), place / "saved/log/tones/run"
        for path in (run_dir(place) / ".lock", log / "train.log", log / "metrics.jsonl"):
            path.unlink()
            path.symlink_to(victim)
            output = self.train(place, "-r", last, "--set", "trainer.epochs=2", code=1)
            self.assertRegex(output, rf"error: .*{path.name}: is a link or not a regular file.*; remove it")
            self.assertNotIn("Traceback", output)
            self.assertEqual("precious\n", victim.read_text())
            path.unlink()


if __name__ == "__main__":
    unittest.main()
