"""Configs are read, overlaid and overridden."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from hw_asr.config import ConfigError, overlay, override, read_json
from hw_asr.tests.test_config import GOOD


class ReadingTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "config.json"

    def test_wrong_json_is_placed(self) -> None:
        self.path.write_text('{\n  "name": "x",\n  "n_gpu" 1\n}')
        with self.assertRaisesRegex(ConfigError, "line 3 column 11: not JSON"):
            read_json(self.path)

    def test_what_is_no_object(self) -> None:
        self.path.write_text("[1, 2]")
        with self.assertRaisesRegex(ConfigError, "expected an object"):
            read_json(self.path)
        self.path.write_bytes(b"\xff\xfe{")
        with self.assertRaisesRegex(ConfigError, "not UTF-8"):
            read_json(self.path)
        with self.assertRaisesRegex(ConfigError, "no such file"):
            read_json(self.path.with_name("other.json"))

    def test_json_that_no_config_holds(self) -> None:
        for text, words in (
            ("[" * 100_000, "nested deeper than 100 levels"),
            ('{"a": ' * 150 + "1" + "}" * 150, "nested deeper than 100 levels"),
            ('{"a": ' + "9" * 5000 + "}", "digits"),
            ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ):
            self.path.write_text(text)
            with self.assertRaisesRegex(ConfigError, words):
                read_json(self.path)

    def test_overlay_replaces_whole_sections(self) -> None:
        base = {"name": "a", "data": {"train": 1, "val": 2}}
        self.assertEqual({"name": "a", "data": {"test": 3}, "x": 1}, overlay(base, {"data": {"test": 3}, "x": 1}))
        self.assertEqual({"train": 1, "val": 2}, base["data"])

    def test_override_by_dotted_path(self) -> None:
        raw = override(
            GOOD,
            ["trainer.epochs=3", "name=new name", "data.train.datasets.0.args.limit=5", "trainer.early_stop=null",
             "text_encoder.type=CTCCharTextEncoder"],
        )  # fmt: skip
        self.assertEqual((3, "new name", None), (raw["trainer"]["epochs"], raw["name"], raw["trainer"]["early_stop"]))
        self.assertEqual(5, raw["data"]["train"]["datasets"][0]["args"]["limit"])
        self.assertEqual({"type": "CTCCharTextEncoder"}, raw["text_encoder"])
        self.assertEqual(1, GOOD["trainer"]["epochs"])

    def test_overrides_that_lead_nowhere_are_all_named(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            override(GOOD, ["epochs", "name.x=1", "metrics.7.type=x"])
        self.assertEqual(3, len(caught.exception.faults))


class DuplicatesTest(unittest.TestCase):
    def test_a_key_that_is_there_twice(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.json"
            path.write_text('{"trainer": {"epochs": 1}, "trainer": {"epochs": 99}}')
            with self.assertRaisesRegex(ConfigError, "key 'trainer' is there twice"):
                read_json(path)

    def test_assignments_that_are_no_text_or_no_index(self) -> None:
        raw = {"data": {"dev": {"datasets": [1, 2, 3]}}}
        for assignment, message in (("name=h\udce9", "not UTF-8 text"), ("data.dev.datasets.\u00b2=1", "valid index")):
            with self.assertRaisesRegex(ConfigError, message):
                override(raw, [assignment])

    def test_assignments_that_no_config_contains(self) -> None:
        for assignment, message in (
            ("a=" + "[" * 900 + "]" * 900, "nested deeper than 100 levels"),
            (".".join("a" * 3000) + "=1", "nested deeper than 100 levels"),
            ("metrics." + "9" * 5000 + "=1", "metrics is a list of 1; '9{20}' is not a valid index"),
            ('trainer={"epochs": 1, "epochs": 9}', "key 'epochs' is there twice; keep one"),
            ("trainer.epochs=" + "9" * 5000, "digits"),
            (r'name="\ud800"', "surrogates"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ConfigError, message) as caught:
                override(GOOD, [assignment])
            self.assertLess(len(str(caught.exception)), 400)

    def test_names_that_look_like_numbers(self) -> None:
        assignments = ["name=123", "trainer.wandb_run=20", "trainer.wandb_project=1e3", "trainer.epochs=20"]
        raw = override(GOOD, assignments)
        self.assertEqual("123", raw["name"])
        self.assertEqual(
            {"wandb_run": "20", "wandb_project": "1e3", "epochs": 20}.items() - raw["trainer"].items(), set()
        )
        raw = override(GOOD, ['name="5"', "trainer.wandb_run=null"])
        self.assertEqual(("5", None), (raw["name"], raw["trainer"]["wandb_run"]))


if __name__ == "__main__":
    unittest.main()
