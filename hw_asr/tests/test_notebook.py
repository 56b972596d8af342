"""The notebook of augmentations: it runs, and what is committed is what its source makes."""

from __future__ import annotations

import importlib.util
import json
import unittest
from typing import Any

from hw_asr.config.registry import SPECTROGRAM_AUGMENTATIONS, WAVE_AUGMENTATIONS
from notebooks import make


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    return [sorted(output.get("data", {output["output_type"]: None})) for output in outputs]


class NotebookTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cells = json.loads(make.NOTEBOOK.read_text(encoding="utf-8"))["cells"]

    def test_committed_cells_are_those_of_the_source(self) -> None:
        fresh = make.read_cells(make.SOURCE.read_text(encoding="utf-8"))
        for committed, made in zip(self.cells, fresh, strict=True):
            self.assertEqual(
                {**committed, "outputs": [], "execution_count": None}, {**made, "outputs": [], "execution_count": None}
            )

    def test_every_augmentation_is_shown(self) -> None:
        headings = {cell["source"][0].strip() for cell in self.cells if cell["cell_type"] == "markdown"}
        for name in (*WAVE_AUGMENTATIONS.names(), *SPECTROGRAM_AUGMENTATIONS.names()):
            self.assertIn(f"## {name}", headings)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")
    def test_runs_and_shows_what_is_committed(self) -> None:
        code = [cell for cell in self.cells if cell["cell_type"] == "code"]
        for cell, outputs in zip(code, make.execute(self.cells), strict=True):
            self.assertEqual(kinds(outputs), kinds(cell["outputs"]), "".join(cell["source"]))
            self.assertTrue(outputs)
        for cell in code[1:]:
            self.assertEqual(
                kinds(cell["outputs"]), [["image/png", "text/plain"], ["text/html", "text/plain"]], cell["id"]
            )


if __name__ == "__main__":
    unittest.main()
