"""Recognition with exported models: the same results as with torch, and without torch."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unittest
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto

import hw_asr
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.cli.main import main
from hw_asr.config import parse
from hw_asr.datasets.audio import read_audio
from hw_asr.runtime.optional import MissingPackageError
from hw_asr.tests.exported_case import random_network
from hw_asr.tests.missing_packages import missing
from hw_asr.tests.transcribe_case import CONFIG, ROOT, TranscribeCase

LANGUAGE_MODEL = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99 <s>\n-1 </s>\n-2 <unk>\n-0.5 light\n\n\\end\\\n"
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
import json
import hw_asr
from hw_asr.cli.main import main
from hw_asr.config import parse
model, recording, folder, output = sys.argv[1:]
recogniser = hw_asr.load(model)
print(json.dumps([recogniser.transcribe(recording).text, recogniser.best_decoder]))
try:
    hw_asr.load("model.pth")
except hw_asr.Error as error:
    print(error)
assert main(["train", "-c", "demo.json"]) == 1
code = main(["test", "-r", model, "-t", folder, "-o", output, "--srt", output + ".srt", "--report", output + ".html"])
loaded = [name for name, module in sys.modules.items() if name.startswith("torch") and module is not None]
sys.exit(code or bool(loaded))
"""


WITHOUT_NUMBA = """
import sys
for name in ("torch", "onnx", "numba", "llvmlite", "av"):
    sys.modules[name] = None
import json
import hw_asr
model, recording = sys.argv[1:]
print(json.dumps(hw_asr.load(model, decoder="argmax").transcribe(recording).to_dict()))
try:
    hw_asr.load(model, decoder="beam_search")
except hw_asr.Error as error:
    print(error)
"""


class ExportedModelCase(TranscribeCase):
    model: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.model = cls.folder / "model.onnx"
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["export", "-r", str(cls.checkpoint), "-o", str(cls.model)])
        assert code == 0

    def assert_close(self, expected: Any, found: Any) -> None:
        """Compare plain data; numbers may differ by the rounding of the network."""
        self.assertIs(type(expected), type(found))
        if isinstance(expected, dict):
            self.assertEqual(expected.keys(), found.keys())
            for name in expected:
                self.assert_close(expected[name], found[name])
        elif isinstance(expected, list):
            self.assertEqual(len(expected), len(found))
            for pair in zip(expected, found, strict=True):
                self.assert_close(*pair)
        elif isinstance(expected, float):
            self.assertAlmostEqual(expected, found, delta=2e-3)
        else:
            self.assertEqual(expected, found)


class SameResultsTest(ExportedModelCase):
    def test_the_command(self) -> None:
        options = ("-t", str(self.audio.parent), "-b", "7", "-j", "1", "--hotwords", "light")
        expected, table = self.run_test(*options)
        found, own_table = self.run_test("-r", str(self.model), *options)
        self.assertEqual(len(found), 33)
        self.assert_close(expected, found)
        rates = re.findall(r"[\d.]+%", table)
        self.assertEqual(len(rates), 8)
        self.assertEqual(rates, re.findall(r"[\d.]+%", own_table))

    def test_a_long_recording(self) -> None:
        samples = np.concatenate([read_audio(path, 16_000) for path in sorted(self.audio.iterdir())[:20]])
        results = [
            hw_asr.load(path, chunk_seconds=13, device="cpu").transcribe(samples, 16_000)
            for path in (self.checkpoint, self.model)
        ]
        self.assertGreater(results[0].duration, 26)
        self.assert_close(results[0].to_dict(), results[1].to_dict())

    def test_a_dropped_recogniser_is_freed_at_once(self) -> None:
        recogniser = hw_asr.load(self.model, chunk_seconds=13)
        recogniser.transcribe(np.zeros(20 * 16_000, np.float32), 16_000)
        model = weakref.ref(recogniser._model)
        gc.disable()
        self.addCleanup(gc.enable)
        del recogniser
        self.assertIsNone(model())

    def test_a_causal_model(self) -> None:
        arch = {
            "type": "DeepSpeech2",
            "args": {
                "cnn_config": {"output_channels": [4], "filters": [[11, 11]], "stride": [[2, 2]]},
                "gru_config": {"hidden_dims": [12, 12]},
                "lookahead_config": {"future_time": 5},
            },
        }
        config = {**CONFIG, "arch": arch, "preprocessing": {**CONFIG["preprocessing"], "normalize": "global"}}
        network = random_network(parse(config))
        with torch.no_grad():
            network.model.linear.weight.mul_(30)  # type: ignore[union-attr,operator]
        checkpoint, model = self.folder / "causal" / "model.pth", self.folder / "causal.onnx"
        checkpoint.parent.mkdir()
        save_checkpoint({"state_dict": network.model.state_dict(), "config": config}, checkpoint)
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(main(["export", "-r", str(checkpoint), "-o", str(model)]), 0)
        expected, recogniser = hw_asr.load(checkpoint, device="cpu"), hw_asr.load(model)
        paths = sorted(self.audio.iterdir())[:6]
        self.assert_close(
            [result.to_dict() for result in expected.transcribe(paths)],
            [result.to_dict() for result in recogniser.transcribe(paths)],
        )
        with self.assertRaisesRegex(hw_asr.Error, "an exported model reads whole recordings; use the checkpoint"):
            recogniser.stream()

    def test_a_language_model_hotwords_and_threads(self) -> None:
        path = self.folder / "lm.arpa"
        path.write_text(LANGUAGE_MODEL)
        paths = sorted(self.audio.iterdir())[:6]
        options: dict[str, Any] = {"language_model": path, "hotwords": ["green light"], "device": "cpu"}
        expected, recogniser = hw_asr.load(self.checkpoint, **options), hw_asr.load(self.model, **options)
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(recogniser.transcribe, paths))
        self.assert_close(
            [expected.transcribe(path).to_dict() for path in paths], [result.to_dict() for result in found]
        )


class WithoutTorchTest(ExportedModelCase):
    def test_neither_torch_nor_onnx_is_needed(self) -> None:
        recording = sorted(self.audio.iterdir())[0]
        output = self.folder / "without.json"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HW_ASR_CACHE": str(self.folder)}
        command = [sys.executable, "-c", WITHOUT_TORCH, str(self.model), str(recording), str(self.audio), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = hw_asr.load(self.checkpoint, device="cpu").transcribe(recording)
        self.assertEqual(json.loads(done.stdout.splitlines()[0]), [expected.text, "beam_search"])
        self.assertIn("model.pth: checkpoints need torch, which is not installed", done.stdout.splitlines()[1])
        self.assertIn("error: train needs torch, which is not installed: pip install torch", done.stderr)
        entries = json.loads(output.read_text())
        self.assertEqual(len(entries), 33)
        self.assertEqual(entries[0]["pred_text_beam_search"][0][0], expected.text)
        self.assertTrue(Path(f"{output}.html").is_file())

    def test_argmax_needs_no_numba(self) -> None:
        recording = sorted(self.audio.iterdir())[0]
        command = [sys.executable, "-c", WITHOUT_NUMBA, str(self.model), str(recording)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        result, message = done.stdout.splitlines()
        expected = hw_asr.load(self.model, decoder="argmax").transcribe(recording).to_dict()
        self.assert_close(expected, json.loads(result))
        self.assertRegex(message, r"the beam searches need the package numba \(.+\): pip install .*, or use argmax")

    def test_an_export_replaces_only_an_export(self) -> None:
        other = self.folder / "other.onnx"
        other.write_bytes(b"mine")
        for path, code in ((self.model, 0), (other, 1), (self.folder, 1), (self.folder / "model.pth", 1)):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(main(["export", "-r", str(self.checkpoint), "-o", str(path)]), code, path)
        self.assertEqual(other.read_bytes(), b"mine")

    def test_the_examples_of_the_page(self) -> None:
        page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
        self.assertEqual(len(blocks), 2)
        shutil.copy(sorted(self.audio.iterdir())[0], self.folder / "talk.m4a")
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.folder)
        for block in blocks:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block, "docs/export.md", "exec"), {})
            self.assertGreater(len(printed.getvalue()), 5)

    def test_the_extra_is_named_where_onnxruntime_is_missing(self) -> None:
        with missing("onnxruntime"), self.assertRaisesRegex(MissingPackageError, r"onnxruntime.*hw_asr\[onnx\]"):
            hw_asr.load(self.model)

    def test_only_the_cpu(self) -> None:
        with self.assertRaisesRegex(hw_asr.Error, "device 0: an exported model runs on the CPU"):
            hw_asr.load(self.model, device="0")

    def test_a_language_model_of_the_received_config_is_not_read(self) -> None:
        proto = onnx.load(self.model)
        config = json.loads({entry.key: entry.value for entry in proto.metadata_props}["config"])
        language_model = {"type": "lm_beam_search", "args": {"language_model": "/etc/hostname"}}
        for decoders, pattern in (
            ([{"type": "argmax"}, language_model], None),
            ([{"type": "os.system", "module": "os"}], r"decoders\[0\].module.*--allow-module os"),
        ):
            changed = ModelProto()
            changed.CopyFrom(proto)
            next(entry for entry in changed.metadata_props if entry.key == "config").value = json.dumps(
                {**config, "decoders": decoders}
            )
            path = self.folder / "received.onnx"
            onnx.save(changed, path)
            if pattern is None:
                with self.assertLogs("hw_asr", "WARNING") as logs:
                    self.assertNotEqual(hw_asr.load(path).best_decoder, "lm_beam_search")
                self.assertIn("from the checkpoint's config, not used", logs.output[0])
            else:
                with self.assertRaisesRegex(hw_asr.Error, pattern):
                    hw_asr.load(path)

    def test_a_secret_in_the_config_is_not_exported(self) -> None:
        state = {
            "state_dict": self.network.model.state_dict(),
            "config": {**CONFIG, "name": "https://me:password@example.org"},
        }
        path = self.folder / "secret" / "model.pth"
        path.parent.mkdir()
        save_checkpoint(state, path)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertEqual(main(["export", "-r", str(path), "-o", str(path.with_suffix(".onnx"))]), 2)
        self.assertRegex(errors.getvalue(), "name: contains a password in an address; put it into an env")
        self.assertFalse(path.with_suffix(".onnx").exists())


if __name__ == "__main__":
    unittest.main()
