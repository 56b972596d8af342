"""Makes notebooks, outputs included, of scripts: `python -m notebooks.make [NAME ...]` (no Jupyter needed)."""

from __future__ import annotations

import base64
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from hw_asr.runtime.atomic_files import write_and_rename

NAMES = ("augmentations", "train_anywhere")
PALETTE_SIZE = 48
"""Colours of a picture; spectrograms in full colour would make the notebook four times as large."""

Cell = dict[str, Any]
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read_cells(script: str) -> list[Cell]:
    """Split a script at its `# %%` lines; a cell of `# %% [markdown]` is text in comments."""
    cells = []
    for index, part in enumerate(script.split("# %%")[1:]):
        title, _, body = part.partition("\n")
        lines = body.strip("\n").splitlines(keepends=True)
        cell: Cell = {"id": f"cell-{index}", "metadata": {}}
        if title.strip() == "[markdown]":
            cells.append({**cell, "cell_type": "markdown", "source": [line[1:].removeprefix(" ") for line in lines]})
        else:
            cells.append({**cell, "cell_type": "code", "source": lines, "execution_count": None, "outputs": []})
    return cells


def execute(cells: list[Cell]) -> list[list[Cell]]:
    """Run the code cells, in order, in one fresh namespace; return each one's outputs as a notebook stores them.

    Outputs are what `display` and `print` are given, as in Jupyter.
    """
    outputs: list[Cell] = []

    def write(*values: object) -> None:
        line = " ".join(map(str, values)) + "\n"
        if outputs and outputs[-1]["output_type"] == "stream":
            outputs[-1]["text"].append(line)
        else:
            outputs.append({"output_type": "stream", "name": "stdout", "text": [line]})

    def display(*values: Any) -> None:
        outputs.extend({"output_type": "display_data", "metadata": {}, "data": rendered(value)} for value in values)

    namespace: dict[str, Any] = {"__name__": "__main__", "display": display, "print": write}
    results = []
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
            results.append(outputs.copy())
            outputs.clear()
    return results


def rendered(value: Any) -> dict[str, Any]:
    """Return a picture or a player as a notebook stores it."""
    text = {"text/plain": [f"<{type(value).__name__}>"]}
    if hasattr(value, "_repr_html_"):
        return {"text/html": [value._repr_html_()], **text}
    from PIL import Image

    small = BytesIO()
    Image.open(BytesIO(value._repr_png_())).convert("RGB").quantize(PALETTE_SIZE).save(small, "png", optimize=True)
    return {"image/png": base64.b64encode(small.getvalue()).decode(), **text}


def source(name: str) -> Path:
    """Return the script that a notebook is made of."""
    return Path(__file__).with_name(f"{name}.py")


def notebook(name: str) -> Path:
    """Return the notebook."""
    return Path(__file__).with_name(f"{name}.ipynb")


def main(names: list[str]) -> None:
    """Write notebooks."""
    for name in names:
        cells = read_cells(source(name).read_text(encoding="utf-8"))
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        for count, (cell, outputs) in enumerate(zip(code, execute(cells), strict=True), start=1):
            cell.update(outputs=outputs, execution_count=count)
        content = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
        with write_and_rename(notebook(name), "w") as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(NAMES))
