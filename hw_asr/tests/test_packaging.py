"""The installed package: a wheel that is built here, unpacked, and used from another directory."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import unittest
import zipfile
from importlib.metadata import PathDistribution, version
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from hw_asr.lm.tuning.heat_map import plot
from hw_asr.runtime.optional import MissingPackageError, optional_import
from hw_asr.storage.gdrive_auth import Login
from hw_asr.tests.missing_packages import missing
from hw_asr.writers.base import LoggedRun
from hw_asr.writers.tensorboard import TensorboardWriter
from hw_asr.writers.wandb import WandbWriter

ROOT = Path(__file__).resolve().parents[2]


def can_build() -> bool:
    """Whether setuptools is installed in a version that knows pyproject.toml's licence fields."""
    return importlib.util.find_spec("setuptools") is not None and int(version("setuptools").split(".")[0]) >= 77


@unittest.skipUnless(can_build(), "setuptools 77 or newer is not installed")
class WheelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        directory = TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.place = Path(directory.name).resolve()
        source = cls.place / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(ROOT / "hw_asr", source / "hw_asr", ignore=shutil.ignore_patterns("__pycache__"))
        command = ["wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(cls.place), "."]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *command], cwd=source, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        (cls.wheel,) = cls.place.glob("*.whl")
        cls.installed = cls.place / "installed"
        with zipfile.ZipFile(cls.wheel) as file:
            file.extractall(cls.installed)
        (metadata,) = cls.installed.glob("*.dist-info")
        cls.distribution = PathDistribution(metadata)

    def test_it_holds_recipes_and_report_assets_and_no_tests(self) -> None:
        names = zipfile.ZipFile(self.wheel).namelist()
        package = ROOT / "hw_asr"
        expected = [*package.glob("configs/**/*.json"), *package.glob("report/*.[hcj]*")]
        self.assertGreater(len(expected), 15)
        for path in expected:
            self.assertIn(path.relative_to(ROOT).as_posix(), names)
        for name in names:
            self.assertTrue(name.startswith(("hw_asr/", "hw_asr-")), name)
            self.assertFalse(name.startswith("hw_asr/tests/"), name)

    def test_commands_run_from_another_directory(self) -> None:
        (entry,) = self.distribution.entry_points
        self.assertEqual((entry.group, entry.name), ("console_scripts", "hw-asr"))
        program = f"import sys; sys.argv[0] = 'hw-asr'; from {entry.module} import {entry.attr} as run; run()"
        environment = {**os.environ, "PYTHONPATH": str(self.installed)}
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir()

        def hw_asr(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", program, *arguments], cwd=elsewhere, env=environment, capture_output=True,
                text=True, check=False,
            )  # fmt: skip

        self.assertEqual(hw_asr("--version").stdout, f"hw-asr {self.distribution.version}\n")
        self.assertIn("usage: hw-asr train ", hw_asr("train", "--help").stdout)
        checked = hw_asr("train", "-c", "hw_asr/configs/fsdd.json", "--check", "-d", "cpu")
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn("experiment  fsdd", checked.stdout)
        entry_of_output = {"audio_path": "a.wav", "pred_text_argmax": "b", "ground_truth": "b"}
        (elsewhere / "output.json").write_text(json.dumps([entry_of_output]), encoding="utf-8")
        self.assertEqual(hw_asr("report", "output.json").returncode, 0)
        self.assertIn("<style>", (elsewhere / "output.html").read_text(encoding="utf-8"))

    def test_requirements_txt_has_a_version_of_every_dependency(self) -> None:
        text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
        declared, pinned = (
            {match[0].lower().replace("_", "-") for line in lines if (match := re.match(r"[\w-]+", line))}
            for lines in (self.distribution.requires or [], text.splitlines())
        )
        self.assertEqual(declared - {"hw-asr"}, pinned)

    def test_messages_about_missing_packages_name_extras_that_exist(self) -> None:
        extras = self.distribution.metadata.get_all("Provides-Extra") or []
        key = self.place / "key.json"
        key.write_text('{"type": "service_account"}', encoding="utf-8")
        with missing("wandb", "matplotlib.backends.backend_agg", "pydrive2.auth", "torch.utils.tensorboard"):
            for extra, make in {
                "wandb": lambda: WandbWriter("project", LoggedRun("run", self.place)),
                "tensorboard": lambda: TensorboardWriter(LoggedRun("run", self.place)),
                "plots": lambda: plot(mock.Mock(), self.place / "x.png", ""),
                "gdrive": lambda: Login(None, str(key), 1.0).authorize(write=False),
            }.items():
                with self.assertRaisesRegex(
                    MissingPackageError, rf"^\S.* needs the package \w+: .*'hw_asr\[{extra}\]'"
                ):
                    make()
                self.assertIn(extra, extras)
        self.assertIn("kenlm", extras)


class OptionalImportTest(unittest.TestCase):
    def test_a_package_that_is_installed_but_broken(self) -> None:
        with (
            self.assertRaisesRegex(
                MissingPackageError, "^X needs the package y, .* cannot be imported: libz is missing"
            ),
            optional_import("X", "y", "z"),
        ):
            raise ImportError("libz is missing")


if __name__ == "__main__":
    unittest.main()
