"""The options of train.py, and what --check finds."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import train
from hw_asr.config import read_json
from hw_asr.storage.runs import Runs
from hw_asr.tests.test_config import GOOD, changed

ROOT = Path(__file__).resolve().parents[2]


class CommandLineTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_train(self, raw: dict[str, Any], *arguments: str) -> tuple[int, str]:
        path = self.folder / "config.json"
        path.write_text(json.dumps(raw))
        errors = io.StringIO()
        command = ["train.py", "-c", str(path), "--set", f"trainer.save_dir={self.folder / 'saved'}", *arguments]
        with mock.patch.object(sys, "argv", command), contextlib.redirect_stderr(errors):
            return train.main(), errors.getvalue()

    def test_a_bad_config_exits_with_2_and_creates_nothing(self) -> None:
        code, errors = self.run_train(changed("arch.type=DeepSpech2", "trainer.epoch=1"))
        self.assertEqual(2, code)
        self.assertIn("2 faults", errors)
        self.assertNotIn("Traceback", errors)
        self.assertEqual(["config.json"], [path.name for path in self.folder.iterdir()])

    def test_check_of_a_number_that_others_are_divided_by(self) -> None:
        code, errors = self.run_train(changed("trainer.accumulate_grad_steps=0"), "--check", "-d", "cpu")
        self.assertEqual(2, code)
        self.assertIn("trainer.accumulate_grad_steps: expected a positive integer, got 0", errors)

    def test_a_model_that_is_too_large_is_one_line(self) -> None:
        huge = changed("arch.args.gru_config.hidden_dims=[10000000]")
        for options in ([], ["--check"]):
            with self.subTest(options=options), contextlib.redirect_stdout(io.StringIO()):
                code, errors = self.run_train(huge, "--device", "cpu", *options)
                self.assertEqual(2 if options else 1, code)
                self.assertRegex(errors, "out of memory: .*; the model is too large for this device; lower the sizes")
                self.assertNotIn("Traceback", errors)

    def test_missing_data_is_one_line(self) -> None:
        code, errors = self.run_train(GOOD, "--device", "cpu")
        self.assertEqual(1, code)
        self.assertIn("train.jsonl", errors)
        self.assertNotIn("Traceback", errors)

    def test_short_options_override_what_is_read(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code, errors = self.run_train(GOOD, "--check", "--bs", "0", "--lr", "0.5", "-d", "cpu")
        self.assertEqual(2, code)
        self.assertIn("data.train.batch_size: expected a positive integer, got 0", errors)
        config = read_json(ROOT / "hw_asr" / "configs" / "demo.json")
        config["data"]["root_dir"] = str(ROOT)
        del config["data"]["train"]["batch_sampler"]
        with contextlib.redirect_stdout(output):
            code, errors = self.run_train(config, "--check", "--bs", "26", "-d", "cpu")
        self.assertEqual(0, code, errors)
        self.assertIn("10 epochs of 100 steps", output.getvalue())

    def test_check_counts_what_is_here(self) -> None:
        output = io.StringIO()
        config = read_json(ROOT / "hw_asr" / "configs" / "demo.json")
        config["data"]["root_dir"] = str(ROOT)
        with contextlib.redirect_stdout(output):
            code, errors = self.run_train(config, "--check", "-d", "cpu")
        self.assertEqual(0, code, errors)
        self.assertIn("2600 utterances, 1.22 h", output.getvalue())
        self.assertIn("10 epochs of 109 steps", output.getvalue())

    def test_a_schedule_that_is_too_short_is_a_fault_before_the_first_step(self) -> None:
        config = read_json(ROOT / "hw_asr" / "configs" / "demo.json")
        config["data"]["root_dir"] = str(ROOT)
        code, errors = self.run_train(config, "--set", "lr_scheduler.args.total_steps=100", "-d", "cpu")
        self.assertEqual(2, code)
        self.assertIn("lr_scheduler.args.total_steps: 100, but the run takes 1090 steps", errors)

    def test_exports_that_would_be_refused_end_the_run_before_anything_is_made(self) -> None:
        storage = {
            "type": "GDriveStorage",
            "args": {"storage_folder_id": "x", "client_credentials_filepath": "no.json"},
        }
        code, errors = self.run_train(GOOD, "--set", f"trainer.external_storage={json.dumps(storage)}", "-d", "cpu")
        self.assertEqual(1, code)
        self.assertIn("no.json", errors)
        self.assertEqual(["config.json"], [path.name for path in self.folder.iterdir()])

    def test_check_refuses_what_a_start_would_refuse(self) -> None:
        config = read_json(ROOT / "hw_asr" / "configs" / "demo.json")
        config["data"]["root_dir"] = str(ROOT)
        config["data"]["dev"]["datasets"][0]["args"]["data"] = "nowhere.jsonl"
        weights = self.folder / "weights.pth"
        torch.save({"state_dict": {"layer.weight": torch.zeros(2, 2)}}, weights)
        (self.folder / "file").touch()
        code, errors = self.run_train(
            config, "--check", "-d", "cpu", "-r", str(weights), "--set", f"trainer.save_dir={self.folder}/file/saved",
        )  # fmt: skip
        self.assertEqual(2, code)
        self.assertIn("data.dev: nowhere.jsonl: cannot read the manifest", errors)
        self.assertIn("file/saved: a run cannot be written there", errors)
        self.assertIn("its weights do not fit the model of the config", errors)
        code, errors = self.run_train(config, "--check", "-d", "cpu", "--set", "optimizer.args.lr=0,002")
        self.assertIn("optimizer.args.lr: expected a number", errors)
        self.assertIn("data.dev: nowhere.jsonl: cannot read the manifest", errors)
        code, errors = self.run_train(config, "--check", "-d", "cpu", "--set", "arch.type=DeepSpeach2")
        self.assertIn("unknown arch 'DeepSpeach2'", errors)
        self.assertIn("data.dev: nowhere.jsonl: cannot read the manifest", errors)
        self.assertEqual(["config.json", "file", "weights.pth"], sorted(path.name for path in self.folder.iterdir()))

    def test_an_unknown_schedule_with_a_learning_rate(self) -> None:
        for value in ("lr_scheduler.type=StpLR", "lr_scheduler=StepLR"):
            code, errors = self.run_train(GOOD, "--check", "-d", "cpu", "--lr", "0.1", "--set", value)
            self.assertEqual(2, code)
            self.assertIn("lr_scheduler", errors)
            self.assertNotIn("Traceback", errors)

    def test_a_second_start_leaves_the_files_of_the_first(self) -> None:
        run = Runs(self.folder / "saved").create(GOOD["name"], "r")
        with run.lock():
            start = ("-d", "cpu", "--set", f"trainer.save_dir={self.folder}/saved", "--set", "trainer.wandb_run=r")
            code, errors = self.run_train(GOOD, *start)
            self.assertEqual(1, code)
            self.assertIn("in use by process", errors)
            self.assertTrue(run.model_dir.is_dir())

    def test_check_refuses_the_directories_that_training_refuses(self) -> None:
        (self.folder / "models").mkdir()
        (self.folder / "log").touch()
        directories = {
            "/proc/x": "No such file",
            str(self.folder / "log"): "log: Not a directory",
            str(self.folder): "log: Not a directory",
            str(self.folder / "deep" / ("x" * 300)): "name too long",
        }
        for directory, reason in directories.items():
            if directory == "/proc/x" and sys.platform != "linux":
                continue
            for options in ((), ("--check",)):
                with self.subTest(directory, options=options):
                    code, errors = self.run_train(GOOD, *options, "-d", "cpu", "--set", f"trainer.save_dir={directory}")
                    self.assertEqual(2 if options else 1, code)
                    self.assertRegex(errors, f"{directory}: a run cannot be written there: .*{reason}")
        elsewhere = f"trainer.save_dir={self.folder}/new/saved"
        code, errors = self.run_train(GOOD, "--check", "-d", "cpu", "--set", elsewhere)
        self.assertEqual(2, code)  # its data are missing
        self.assertNotIn("cannot be written", errors)
        self.assertEqual({"config.json", "models", "log"}, {path.name for path in self.folder.rglob("*")})

    def test_check_of_a_schedule_that_is_too_short(self) -> None:
        config = read_json(ROOT / "hw_asr" / "configs" / "demo.json")
        config["data"]["root_dir"] = str(ROOT)
        code, errors = self.run_train(config, "--check", "--set", "lr_scheduler.args.total_steps=100", "-d", "cpu")
        self.assertEqual(2, code)
        self.assertIn("lr_scheduler.args.total_steps: 100, but the run takes 1090 steps", errors)


if __name__ == "__main__":
    unittest.main()
