"""Unpacking: complete or not at all, and never outside the target."""

import bz2
import io
import stat
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from hw_asr.runtime import unpacking as module
from hw_asr.runtime.unpacking import UnpackError, unpack

FILES = {"top/a.txt": b"a" * 1000, "top/sub/b.txt": bytes(range(256)) * 4000, "c.txt": b"c"}


class TestUnpack(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.target = self.directory / "data" / "corpus"

    def tar(self, mode: str = "w:gz", extra: tarfile.TarInfo | None = None) -> Path:
        path = self.directory / "archive.tar"
        with tarfile.open(path, mode) as archive:
            for name, content in FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            if extra is not None:
                archive.addfile(extra, io.BytesIO(b"x" * extra.size))
        return path

    def zip(self, extra: zipfile.ZipInfo | None = None) -> Path:
        path = self.directory / "archive.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
            if extra is not None:
                archive.writestr(extra, "x")
        return path

    def refused(self, archive: Path, words: str) -> None:
        with self.assertRaisesRegex(UnpackError, f"{archive.name}.*{words}"):
            unpack(archive, self.target)
        self.assertEqual(list(self.target.parent.iterdir()), [])
        self.assertEqual({path.name for path in self.directory.iterdir()}, {archive.name, "data"})

    def test_all_formats(self) -> None:
        for make in (self.tar, lambda: self.tar("w"), lambda: self.tar("w:bz2"), lambda: self.tar("w:xz"), self.zip):
            unpack(make(), self.target)
            found = {
                path.relative_to(self.target).as_posix(): path for path in self.target.rglob("*") if path.is_file()
            }
            self.assertEqual({name: path.read_bytes() for name, path in found.items()}, FILES)
            self.target.rename(self.directory / f"seen {len(list(self.directory.iterdir()))}")

    def test_a_directory_inside(self) -> None:
        unpack(self.tar(), self.target, inside="top/sub")
        self.assertEqual([path.name for path in self.target.iterdir()], ["b.txt"])
        self.assertEqual(list(self.target.parent.iterdir()), [self.target])
        with self.assertRaisesRegex(UnpackError, "no directory 'other'"):
            unpack(self.tar(), self.directory / "x", inside="other")

    def test_names_outside_the_target_are_refused(self) -> None:
        for name in ("../evil", "top/../../evil", "/evil", "..\\evil", "top/.."):
            with self.subTest(name):
                member = tarfile.TarInfo(name)
                member.size = 1
                self.refused(self.tar(extra=member), "outside")
                (self.directory / "archive.tar").unlink()
                self.refused(self.zip(zipfile.ZipInfo(name)), "outside")
                (self.directory / "archive.zip").unlink()

    def test_links_and_devices_are_refused(self) -> None:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            with self.subTest(kind):
                member = tarfile.TarInfo("top/link")
                member.type, member.linkname = kind, "a.txt"
                self.refused(self.tar(extra=member), "link or a device")
        (self.directory / "archive.tar").unlink()
        link = zipfile.ZipInfo("top/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        self.refused(self.zip(link), "link or a device")

    def test_damaged_archives(self) -> None:
        whole = {mode: self.tar(mode).read_bytes() for mode in ("w", "w:gz", "w:bz2", "w:xz")} | {
            "zip": self.zip().read_bytes()
        }
        (self.directory / "archive.zip").unlink()
        path = self.directory / "archive.tar"
        for kind, content in whole.items():
            for name, damaged in (("cut", content[: len(content) // 2]), ("empty", b"")):
                with self.subTest(kind, damage=name):
                    path.write_bytes(damaged)
                    self.refused(path, "damaged|empty")
        for name, damaged in (("text", b"<html>no archive</html>" * 100), ("bz2", bz2.compress(b"no tar" * 1000))):
            with self.subTest(name):
                path.write_bytes(damaged)
                self.refused(path, "damaged")
        path.write_bytes(whole["w:gz"][:3])  # tarfile raises TypeError for a gzip header that ends early
        self.refused(path, "damaged")
        flipped = bytearray(whole["zip"])
        flipped[len(flipped) // 3] ^= 0xFF
        path.write_bytes(bytes(flipped))
        self.refused(path, "damaged")

    def test_interrupted_or_full_leaves_nothing(self) -> None:
        archive = self.tar()
        for error, expected in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), UnpackError)):
            with mock.patch.object(module, "_copy", side_effect=error), self.assertRaises(expected):
                unpack(archive, self.target)
            self.assertEqual(list(self.target.parent.iterdir()), [])

    def test_leftovers_of_a_killed_process_are_removed(self) -> None:
        left = self.target.with_name(".corpus.0123.unpacking")
        left.mkdir(parents=True)
        (left / "old.txt").write_text("old")
        unpack(self.tar(), self.target)
        self.assertEqual(sorted(path.name for path in self.target.iterdir()), ["c.txt", "top"])
        self.assertEqual([self.target], list(self.target.parent.iterdir()))

    def test_a_link_in_the_place_of_the_hidden_directory_is_not_followed(self) -> None:
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir()
        self.target.parent.mkdir()
        for name in (".corpus.unpacking", ".corpus.0123.unpacking"):
            self.target.with_name(name).symlink_to(elsewhere)
        unpack(self.tar(), self.target)
        self.assertEqual([], list(elsewhere.iterdir()))
        self.assertFalse(self.target.is_symlink())

    def test_archives_that_unpack_to_far_more_than_their_size(self) -> None:
        patch = mock.patch.object(module, "_MIN_ROOM", 1 << 20)
        patch.start()
        self.addCleanup(patch.stop)
        large = tarfile.TarInfo("large")
        large.size = 8 << 20
        self.refused(self.tar(extra=large), "200 times")
        (self.directory / "archive.tar").unlink()
        with zipfile.ZipFile(self.directory / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("large", bytes(64 << 20))
        self.refused(self.directory / "archive.zip", "200 times")
        (self.directory / "archive.zip").unlink()
        with tarfile.open(self.directory / "archive.tar", "w:xz") as archive:
            for number in range(4000):
                archive.addfile(tarfile.TarInfo(f"empty{number}"))
        self.refused(self.directory / "archive.tar", "200 times")


if __name__ == "__main__":
    unittest.main()
