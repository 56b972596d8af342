"""docs/config.md and docs/config.schema.json are current, and name every key and every component."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import re
import unittest
from pathlib import Path
from typing import Any

from hw_asr.config import override
from hw_asr.config import schema as config
from hw_asr.experiment.validation import validate
from scripts import config_meanings, config_reference, config_schema

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
                # `optimizer.groups` is explained in the row of `optimizer`.
                if key not in ("data.SPLIT", "data.root_dir", "optimizer.groups") and not key.endswith(
                    (".type", ".args")
                ):
                    self.assertTrue(f"| `{key}` |" in self.text, f"{path.name}: {key}")

    def test_every_registered_name_has_a_heading_and_words(self) -> None:
        for _, kind, _ in config_reference.KINDS:
            for name in kind.registered():
                self.assertTrue(re.search(rf"### `{name}`\n\n[A-Z]", self.text), name)

    def test_no_row_is_without_a_meaning(self) -> None:
        sections = self.text.split("## Models")[0]
        rows = re.findall(r"^\| `.*$", sections, flags=re.MULTILINE)
        expected = [config._Sections, config.Preprocessing, config.Augmentations, config.Split, config.TrainerConfig,
                    config.Transfer]  # fmt: skip
        self.assertEqual(len(rows), sum(len(dataclasses.fields(each)) for each in expected))
        for row in rows:
            cells = re.split(r"(?<!\\)\|", row)
            self.assertEqual(len(cells), 6, row)
            self.assertTrue(cells[4].strip(), row)

    def test_words_are_kept_for_nothing_that_is_gone(self) -> None:
        for key in config_meanings.MEANINGS:
            self.assertTrue(f"| `{key}` |" in self.text, key)


@unittest.skipUnless(importlib.util.find_spec("jsonschema"), "jsonschema is not installed")
class ConfigSchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        from jsonschema import Draft7Validator

        cls.text = config_schema.OUTPUT.read_text(encoding="utf-8")
        schema = json.loads(cls.text)
        Draft7Validator.check_schema(schema)
        cls.validator = Draft7Validator(schema)

    def test_the_file_is_current(self) -> None:
        self.assertTrue(self.text == config_schema.text(), "not current; run: python scripts/config_reference.py")

    def test_shipped_recipes_are_valid(self) -> None:
        for path in CONFIGS.rglob("*.json"):
            errors = [error.message for error in self.validator.iter_errors(json.loads(path.read_text("utf-8")))]
            self.assertEqual(errors, [], path.name)

    def test_it_rejects_what_validation_rejects(self) -> None:
        recipe = json.loads((CONFIGS / "demo.json").read_text(encoding="utf-8"))
        for assignment in (
            "trainr.epochs=3",
            "trainer.epoch=3",
            "trainer.epochs=three",
            "trainer.precision=fp8",
            "arch.type=DeepSpech2",
            "arch.arg={}",
            "arch.args.gru_config.hidden=3",
            "arch.args.cnn_config.stride=two",
            "data.train.datasets=[]",
            "data.dev.batchsize=3",
            "data.train.datasets.0.args.dat=3",
            "data.train.datasets.0.args={}",
            "metrics.0.type=WER",
            "preprocessing.normalize=all",
        ):
            with self.subTest(assignment):
                changed = override(recipe, [assignment])
                self.assertFalse(self.validator.is_valid(changed))
                with self.assertRaises(config.ConfigError):
                    validate(changed)
        for key in ("arch", "trainer", "data"):
            changed = {name: value for name, value in recipe.items() if name != key}
            self.assertFalse(self.validator.is_valid(changed), key)

    def test_it_accepts_what_validation_accepts(self) -> None:
        recipe = json.loads((CONFIGS / "demo.json").read_text(encoding="utf-8"))
        recipe["$schema"] = "../../docs/config.schema.json"
        for assignment in ("arch.args.lookahead_config=null", "trainer.grad_norm_clip=null", "optimizer.type=RAdam"):
            changed = override(recipe, [assignment])
            validate(copy.deepcopy(changed))
            self.assertEqual([error.message for error in self.validator.iter_errors(changed)], [], assignment)


if __name__ == "__main__":
    unittest.main()
