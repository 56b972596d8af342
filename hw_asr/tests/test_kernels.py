"""Where compiled kernels are kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from hw_asr.runtime import kernels
from hw_asr.runtime.private_files import user_cache_dir

ROOT = Path(__file__).parents[2]
OTHER_NUMPY = """
import numpy as np
from hw_asr.decoders.argmax import ArgmaxDecoder
from hw_asr.decoders.beam_search import BeamSearchDecoder
from hw_asr.runtime.optional import MissingPackageError
from hw_asr.text.encoder import CTCCharTextEncoder

encoder = CTCCharTextEncoder("a ")
print(ArgmaxDecoder(encoder)(np.log([[[0.1, 0.8, 0.1]]]), np.array([1]))[0][0].text)
try:
    BeamSearchDecoder(encoder).prepare()
except MissingPackageError as error:
    print(error)
"""


class CacheTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def cache_dir(self, package: Path, **environment: str) -> Path | None:
        with mock.patch.object(kernels, "PACKAGE", package), mock.patch.dict(os.environ, environment):
            return kernels._cache_dir()

    def run_code(self, code: str, **environment: str) -> str:
        command, variables = [sys.executable, "-c", code], {**os.environ, **environment}
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout

    def test_beside_the_source_where_that_can_be_written(self) -> None:
        directory = self.cache_dir(self.directory)
        self.assertEqual(directory.parent, self.directory / "__pycache__")
        self.assertEqual(stat.S_IMODE(directory.stat().st_mode), 0o700)

    def test_in_the_users_directory_else(self) -> None:
        (self.directory / "__pycache__").touch()  # no directory can be made in its place, by root neither
        directory = self.cache_dir(self.directory, XDG_CACHE_HOME=str(self.directory / "home"))
        self.assertEqual(directory.parent, self.directory / "home" / "hw_asr")
        self.assertEqual(stat.S_IMODE(directory.parent.stat().st_mode), 0o700)

    def test_nowhere_when_others_can_write(self) -> None:
        package, home = self.directory / "package", self.directory / "home"
        (package / "__pycache__").mkdir(parents=True)
        (package / "__pycache__").chmod(0o777)
        home.mkdir()
        other = self.directory / "other"
        other.mkdir()
        (home / "hw_asr").symlink_to(other)
        self.assertIsNone(self.cache_dir(package, XDG_CACHE_HOME=str(home)))
        (home / "hw_asr").unlink()
        (home / "hw_asr").mkdir()
        (home / "hw_asr").chmod(0o770)
        self.assertIsNone(self.cache_dir(package, XDG_CACHE_HOME=str(home)))
        (home / "hw_asr").chmod(0o700)
        self.assertEqual(self.cache_dir(package, XDG_CACHE_HOME=str(home)).parent, home / "hw_asr")

    @unittest.skipUnless(hasattr(os, "getuid") and os.getuid() == 0, "only root can give files away")
    def test_nowhere_when_the_directory_is_somebody_elses(self) -> None:
        (self.directory / "__pycache__").touch()
        home = self.directory / "home"
        (home / "hw_asr").mkdir(parents=True)
        os.chown(home / "hw_asr", 12345, 12345)
        self.assertIsNone(self.cache_dir(self.directory, XDG_CACHE_HOME=str(home)))

    def test_changed_kernels_are_compiled_anew(self) -> None:
        (self.directory / "decoders").mkdir()
        inner = self.directory / "decoders" / "inner.py"
        inner.write_text("before", encoding="utf-8")
        with mock.patch.object(kernels, "PACKAGE", self.directory):
            before = kernels._cache_dir()
            self.assertEqual(kernels._cache_dir(), before)
            inner.write_text("after!", encoding="utf-8")
            self.assertNotEqual(kernels._cache_dir(), before)

    def test_below_the_given_directory(self) -> None:
        code = (
            "import numba; from hw_asr.runtime import kernels\n"
            "kernels._keep_machine_code(), kernels._keep_machine_code(); print(numba.config.CACHE_DIR)"
        )
        output = self.run_code(code, NUMBA_CACHE_DIR=str(self.directory), PYTHONPATH=str(ROOT))
        self.assertEqual(Path(output.strip()), self.directory / f"kernels-{kernels._digest()}")

    def test_a_numba_that_cannot_be_imported(self) -> None:
        (self.directory / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')")
        text, message = self.run_code(OTHER_NUMPY, PYTHONPATH=f"{self.directory}{os.pathsep}{ROOT}").splitlines()
        self.assertEqual("a", text)
        self.assertIn("need the package numba (Numba needs NumPy 2.2 or less): pip install", message)

    def test_kernels_live_where_changes_are_looked_for(self) -> None:
        package = kernels.PACKAGE
        known = {path for folder in kernels.KERNEL_FOLDERS for path in (package / folder).glob("*.py")}
        users = {path for path in package.rglob("*.py") if "kernel\ndef " in path.read_text(encoding="utf-8")}
        self.assertGreater(len(users), 5)
        self.assertEqual(users - known, set())

    def test_without_a_home_there_is_no_cache(self) -> None:
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": "/dev/null/none"}):
            self.assertIsNone(user_cache_dir())

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
