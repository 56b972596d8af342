"""docs/config.md is what the code says, and names every key and every component there is."""

from __future__ import annotations

import dataclasses
import json
import re
import unittest
from pathlib import Path
from typing import Any

from hw_asr.config import schema as config
from scripts import config_reference

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def keys(value: Any, path: str = "") -> list[str]:
    """Return the dotted paths of a config's keys, not those inside `args`, with SPLIT for the names of splits."""
    found = []
    for key, inner in value.items() if isinstance(value, dict) else ():
        name = "SPLIT" if path == "data." and key != "root_dir" else key
        found.append(path + name)
        if "type" not in value and key != "args":
            found += keys(inner, f"{path}{name}.")
    return found


class ConfigReferenceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.text = config_reference.OUTPUT.read_text(encoding="utf-8")

    def test_the_page_is_current(self) -> None:
        self.assertTrue(self.text == config_reference.page(), "not current; run: python scripts/config_reference.py")

    def test_every_key_of_the_shipped_configs_is_explained(self) -> None:
        for path in CONFIGS.rglob("*.json"):
            for key in keys(json.loads(path.read_text(encoding="utf-8"))):
                if key not in ("data.SPLIT", "data.root_dir") and not key.endswith((".type", ".args")):
                    self.assertTrue(f"| `{key}` |" in self.text, f"{path.name}: {key}")

    def test_every_registered_name_has_a_heading_and_words(self) -> None:
        for _, kind, _ in config_reference.KINDS:
            for name in kind.registered():
                self.assertTrue(re.search(rf"### `{name}`\n\n[A-Z]", self.text), name)

    def test_no_row_is_without_a_meaning(self) -> None:
        sections = self.text.split("## Models")[0]
        rows = re.findall(r"^\| `.*$", sections, flags=re.MULTILINE)
        expected = [config._Sections, config.Preprocessing, config.Augmentations, config.Split, config.TrainerConfig]
        self.assertEqual(len(rows), sum(len(dataclasses.fields(each)) for each in expected))
        for row in rows:
            cells = re.split(r"(?<!\\)\|", row)
            self.assertEqual(len(cells), 6, row)
            self.assertTrue(cells[4].strip(), row)

    def test_words_are_kept_for_nothing_that_is_gone(self) -> None:
        for key in config_reference.MEANINGS:
            self.assertTrue(f"| `{key}` |" in self.text, key)


if __name__ == "__main__":
    unittest.main()
