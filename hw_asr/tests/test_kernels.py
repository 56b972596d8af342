"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from hw_asr.runtime import kernels


class CacheTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def test_beside_the_source_where_that_can_be_written(self) -> None:
        with mock.patch.object(kernels, "PACKAGE", self.directory):
            self.assertEqual(Path(kernels._cache_dir()).parent, self.directory / "__pycache__")

    def test_in_the_users_directory_else(self) -> None:
        (self.directory / "__pycache__").touch()  # no directory can be made in its place, by root neither
        home = {"XDG_CACHE_HOME": str(self.directory / "home")}
        with mock.patch.object(kernels, "PACKAGE", self.directory), mock.patch.dict(os.environ, home):
            self.assertEqual(Path(kernels._cache_dir()).parent, self.directory / "home" / "hw_asr")

    def test_changed_kernels_are_compiled_anew(self) -> None:
        (self.directory / "decoders").mkdir()
        inner = self.directory / "decoders" / "inner.py"
        inner.write_text("before", encoding="utf-8")
        with mock.patch.object(kernels, "PACKAGE", self.directory):
            before = kernels._cache_dir()
            self.assertEqual(kernels._cache_dir(), before)
            inner.write_text("after!", encoding="utf-8")
            self.assertNotEqual(kernels._cache_dir(), before)

    def test_kernels_live_where_changes_are_looked_for(self) -> None:
        package = kernels.PACKAGE
        known = {path for folder in kernels.KERNEL_FOLDERS for path in (package / folder).glob("*.py")}
        users = {path for path in package.rglob("*.py") if "kernel\ndef " in path.read_text(encoding="utf-8")}
        self.assertGreater(len(users), 5)
        self.assertEqual(users - known, set())

    def test_in_a_temporary_directory_at_last(self) -> None:
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": "/dev/null/none"}):
            self.assertEqual(kernels.user_cache_dir().parent, Path(tempfile.gettempdir()))

    def test_a_kernel_runs(self) -> None:
        scale = kernels.kernel(_scale)
        self.assertEqual(scale(Vector(2.0, np.array([1.0, 2.5])), 1), (5.0, 1))


class Vector(NamedTuple):
    factor: float
    values: kernels.Float64Vector


def _scale(vector: Vector, place: int) -> tuple[float, int]:
    return vector.factor * vector.values[place], place


if __name__ == "__main__":
    unittest.main()
