"""The notebooks: they run, and what is committed is what their sources make."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.config.registry import SPECTROGRAM_AUGMENTATIONS, WAVE_AUGMENTATIONS
from notebooks import make

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


def cells_of(name: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(make.notebook(name).read_text(encoding="utf-8"))["cells"]
    return cells


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    return [sorted(output.get("data", {output["output_type"]: None})) for output in outputs]


class NotebookTest(unittest.TestCase):
    def assert_runs(self, cells: list[dict[str, Any]]) -> None:
        """Run the cells; they must show the same kinds of output as those that are committed."""
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        for cell, outputs in zip(code, make.execute(cells), strict=True):
            self.assertEqual(kinds(outputs), kinds(cell["outputs"]), "".join(cell["source"]))
            self.assertTrue(outputs)

    def test_committed_cells_are_those_of_the_source(self) -> None:
        for name in make.NAMES:
            fresh = make.read_cells(make.source(name).read_text(encoding="utf-8"))
            for committed, made in zip(cells_of(name), fresh, strict=True):
                empty = {"outputs": [], "execution_count": None}
                self.assertEqual({**committed, **empty}, {**made, **empty})

    def test_every_augmentation_is_shown(self) -> None:
        headings = {cell["source"][0].strip() for cell in cells_of("augmentations") if cell["cell_type"] == "markdown"}
        for name in (*WAVE_AUGMENTATIONS.names(), *SPECTROGRAM_AUGMENTATIONS.names()):
            self.assertIn(f"## {name}", headings)

    @unittest.skipUnless(HAS_MATPLOTLIB, "matplotlib is not installed")
    def test_augmentations(self) -> None:
        cells = cells_of("augmentations")
        self.assert_runs(cells)
        for cell in [cell for cell in cells if cell["cell_type"] == "code"][1:]:
            self.assertEqual(
                kinds(cell["outputs"]), [["image/png", "text/plain"], ["text/html", "text/plain"]], cell["id"]
            )

    @unittest.skipUnless(HAS_MATPLOTLIB, "matplotlib is not installed")
    def test_training_anywhere(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            settings = {"HW_ASR_NOTEBOOK_SMALL": "1", "HW_ASR_WORK": place, "OMP_NUM_THREADS": "1"}
            with mock.patch.dict(os.environ, settings):
                self.assert_runs(cells_of("train_anywhere"))
                shutil.rmtree(Path(place, "saved"))  # a new machine, after the end of the run
                self.assert_runs(cells_of("train_anywhere"))

    def test_what_the_machine_lacks_is_installed(self) -> None:
        cells = [cell for cell in cells_of("train_anywhere") if cell["cell_type"] == "code"][:1]
        for has_clone, has_packages, expected in (
            (False, False, ["git", "pip"]), (True, False, ["pip"]), (True, True, []),
        ):  # fmt: skip
            with (
                self.subTest(has_clone=has_clone, has_packages=has_packages),
                tempfile.TemporaryDirectory() as place,
                mock.patch("subprocess.run") as run,
                mock.patch("importlib.util.find_spec", return_value=has_packages or None),
                mock.patch.object(Path, "cwd", return_value=Path(place)),
                mock.patch.object(sys, "path", sys.path.copy()),
            ):
                if has_clone:
                    (Path(place) / "hw_asr_clone" / "demo" / "corpus").mkdir(parents=True)
                make.execute(cells)
                called = [call.args[0] for call in run.call_args_list]
                self.assertEqual(expected, ["git" if command[0] == "git" else command[2] for command in called])


if __name__ == "__main__":
    unittest.main()
