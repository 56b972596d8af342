"""The Python interface: hw_asr.load and what a recogniser returns, on a real checkpoint and real files."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import gc
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

import hw_asr
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.config import parse
from hw_asr.datasets.audio import read_audio
from hw_asr.experiment.network import make_network
from hw_asr.recognition import results
from hw_asr.tests.transcribe_case import CONFIG, CORPUS, ROOT

LANGUAGE_MODEL = """\\data\\
ngram 1=5

\\1-grams:
-99 <s>
-1 </s>
-2 <unk>
-0.5 light
-0.6 green

\\end\\
"""


class PythonInterfaceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        network = make_network(parse(CONFIG), torch.device("cpu"))
        with torch.no_grad():
            network.model.linear.weight.mul_(30)  # type: ignore[union-attr,operator]
        cls.checkpoint = cls.folder / "model_best.pth"
        save_checkpoint({"state_dict": network.model.state_dict(), "config": CONFIG}, cls.checkpoint)
        (cls.folder / "lm.arpa").write_text(LANGUAGE_MODEL)
        (cls.folder / "recordings").mkdir()
        rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text().splitlines()[:8]]
        for number, row in enumerate(rows):
            shutil.copy(CORPUS / row["path"], cls.folder / "recordings" / f"{number}.opus")
        cls.paths = sorted((cls.folder / "recordings").iterdir())
        shutil.copy(cls.paths[0], cls.folder / "talk.m4a")  # the content decides, not the name
        soundfile.write(cls.folder / "talk.wav", read_audio(cls.paths[0], 22_050), 22_050, subtype="FLOAT")
        cls.recogniser = hw_asr.load(cls.checkpoint, device="cpu")

    def test_path_samples_and_list_give_the_same(self) -> None:
        one = self.recogniser.transcribe(self.paths[0])
        samples = read_audio(self.paths[0], 16_000)
        self.assertEqual(one, self.recogniser.transcribe(samples, sample_rate=16_000))
        self.assertEqual(one, self.recogniser.transcribe(str(self.paths[0])))
        many = list(self.recogniser.transcribe([*self.paths, samples], sample_rate=16_000))
        self.assertEqual(len(many), 9)
        self.assertEqual(
            [each.text for each in many], [self.recogniser.transcribe(path).text for path in self.paths] + [one.text]
        )
        self.assertGreater(len({each.text for each in many}), 6)
        resampled = self.recogniser.transcribe(*soundfile.read(self.folder / "talk.wav"))
        self.assertAlmostEqual(resampled.duration, one.duration, places=2)

    def test_a_result_is_frozen_and_consistent(self) -> None:
        result = self.recogniser.transcribe(self.paths[0])
        with self.assertRaises(dataclasses.FrozenInstanceError):
            result.text = ""  # type: ignore[misc]
        self.assertEqual(result.text, result.alternatives[0].text)
        self.assertEqual(result.by_decoder, {"beam_search": result.alternatives})
        self.assertEqual(result.text.split(), [word.word for word in result.words])
        self.assertEqual(result.segments[0].words, result.words)
        self.assertEqual(result.segments[0].start, result.words[0].start)
        self.assertLessEqual(result.words[-1].end, result.duration)
        self.assertIsNone(result.warning)
        data = json.loads(json.dumps(result.to_dict()))
        self.assertEqual(data["words"][0], result.words[0].to_dict())
        self.assertEqual(data["alternatives"][0]["log_prob"], result.alternatives[0].log_prob)

    def test_a_damaged_recording_is_transcribed_with_a_warning(self) -> None:
        path = self.folder / "cut.wav"
        soundfile.write(path, read_audio(self.paths[0], 16_000), 16_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        result = self.recogniser.transcribe(path)
        self.assertIn("cut off", result.warning or "")
        self.assertTrue(result.text)

    def test_errors(self) -> None:
        (self.folder / "text.wav").write_text("no audio")
        for audio, rate, message in (
            ("missing.wav", None, "missing.wav: cannot be opened"),
            (self.folder / "text.wav", None, "text.wav"),
            (np.zeros(100), None, "sample_rate: samples need their rate"),
            (np.zeros(100), math.nan, "sample_rate: samples need their rate"),
            (np.zeros(100), "16000", "sample_rate: samples need their rate"),
            (np.zeros((2, 100)), 16_000, r"expected one channel of shape \(N,\), got \(2, 100\)"),
            (np.zeros(0), 16_000, "expected one channel"),
            (np.full(100, np.nan), 16_000, r"expected floats in \[-1, 1\]"),
            (np.full(100, 3000.0), 16_000, r"values up to 3000"),
            (np.zeros(100, np.int32), 16_000, "got int32"),
        ):
            with self.subTest(message), self.assertRaisesRegex(hw_asr.Error, message):
                self.recogniser.transcribe(audio, rate)
        first, bad, last = self.recogniser.transcribe([self.paths[0], self.folder / "text.wav", self.paths[1]])
        self.assertIn("text.wav", bad.error or "")
        self.assertEqual((bad.text, bad.to_dict()["error"]), ("", bad.error))
        self.assertTrue(first.text and last.text)
        for options, message in (
            ({"decoder": "beam_serch"}, "unknown decoder; did you mean 'beam_search'"),
            ({"decoder": "lm_beam_search"}, "give language_model"),
            ({"language_model": "no.arpa"}, "no.arpa: no such file"),
            ({"language_model": self.folder}, "language_model: .*: is not a file; give an ARPA file or a KenLM"),
            ({"device": "tpu"}, "device 'tpu'"),
            ({"chunk_seconds": 5}, "expected more than 12"),
            ({"decoder": "argmax", "language_model": self.folder / "lm.arpa"}, "language_model: decoder 'argmax' uses"),
            ({"decoder": "argmax", "hotwords": ["milk"]}, "hotwords: decoder 'argmax' uses none"),
            ({"hotwords": "milk"}, "hotwords: expected a list of words"),
            ({"hotwords": 3}, "hotwords: expected a list of words or a mapping, got 3"),
            ({"hotwords": ["milk", 3]}, "hotwords: expected words, got 3"),
            ({"device": 99}, "GPU 99 does not exist"),
            ({"device": torch.device("cuda", 99)}, "GPU 99 does not exist"),
            ({"hotwords": {"milk": None}}, "expected a boost between -200 and 200 for 'milk', got None"),
        ):
            with self.subTest(message), self.assertRaisesRegex(hw_asr.Error, message):
                hw_asr.load(self.checkpoint, **options)  # type: ignore[arg-type]
        for path, message in (
            (ROOT / "README.md", "not a checkpoint"),
            (self.folder, r"is a directory; give one of its checkpoints, such as .*model_best\.pth"),
            (self.folder / "none.pth", "no such checkpoint"),
        ):
            with self.subTest(message), self.assertRaisesRegex(hw_asr.Error, message):
                hw_asr.load(path)

    def test_hotwords_go_to_every_beam_search(self) -> None:
        plain = self.recogniser.transcribe(self.paths[0]).text
        for options in ({"decoder": "beam_search"}, {"language_model": self.folder / "lm.arpa"}):
            words = {plain.split()[0]: -200.0}
            recogniser = hw_asr.load(self.checkpoint, device="cpu", hotwords=words, **options)  # type: ignore[arg-type]
            self.assertNotIn(plain.split()[0], recogniser.transcribe(self.paths[0]).text.split())

    def test_arguments_of_other_libraries(self) -> None:
        words = np.array(["green", "light"])
        for options in ({"device": torch.device("cpu")}, {"hotwords": words}, {"hotwords": iter(words)}):
            recogniser = hw_asr.load(self.checkpoint, **{"device": "cpu", **options})
            self.assertTrue(recogniser.transcribe(self.paths[0]).text)

    def test_a_chunk_that_is_hardly_longer_than_its_overlaps(self) -> None:
        samples = np.tile(read_audio(self.paths[0], 16_000), 20)
        recogniser = hw_asr.load(self.checkpoint, device="cpu", chunk_seconds=12.01)
        self.assertTrue(recogniser.transcribe(samples, 16_000).text)

    def test_a_series_of_paths_is_iterated(self) -> None:
        class Series(list[Any]):
            def __array__(self, dtype: object = None, copy: object = None) -> Any:
                return np.array([str(path) for path in self], dtype=object)

        many = list(self.recogniser.transcribe(Series(self.paths[:2])))
        self.assertEqual(
            [self.recogniser.transcribe(path).text for path in self.paths[:2]], [each.text for each in many]
        )

    def test_the_settings_of_the_program_stay_as_they_are(self) -> None:
        def settings() -> list[object]:
            return [
                torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32,
                torch.get_float32_matmul_precision(), torch.get_num_threads(),
            ]  # fmt: skip

        before = settings()
        self.addCleanup(torch.set_float32_matmul_precision, before[2])
        for name, value in (("deterministic", True), ("allow_tf32", False)):
            self.addCleanup(setattr, torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
            setattr(torch.backends.cudnn, name, value)
        torch.set_float32_matmul_precision("medium")
        chosen = settings()
        hw_asr.load(self.checkpoint, device="cpu").transcribe(self.paths[0])
        self.assertEqual(chosen, settings())

    def test_a_dropped_recogniser_is_freed_at_once(self) -> None:
        recogniser = hw_asr.load(self.checkpoint, device="cpu", language_model=self.folder / "lm.arpa")
        self.assertTrue(recogniser.transcribe(np.tile(read_audio(self.paths[0], 16_000), 50), 16_000).text)
        network = weakref.ref(recogniser._model._network.model)  # type: ignore[attr-defined]
        gc.disable()
        self.addCleanup(gc.enable)
        del recogniser
        self.assertIsNone(network())

    def test_threads_share_a_recogniser(self) -> None:
        recogniser = hw_asr.load(self.checkpoint, language_model=self.folder / "lm.arpa", device="cpu")
        self.assertEqual(recogniser.best_decoder, "lm_beam_search")
        expected = [recogniser.transcribe(path) for path in self.paths]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                self.assertEqual(list(pool.map(recogniser.transcribe, self.paths)), expected)

    def test_importing_loads_nothing_heavy(self) -> None:
        code = (
            "import sys, hw_asr; assert hw_asr.Error; print(*{'torch', 'numpy', 'scipy', 'numba'} & set(sys.modules))"
        )
        printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(printed.stdout.split(), [])
        self.assertLessEqual(set(hw_asr.__all__), set(dir(hw_asr)))
        with self.assertRaisesRegex(AttributeError, "no attribute 'transcribe'"):
            hw_asr.transcribe  # noqa: B018

    def test_the_examples_in_docstrings(self) -> None:
        self.assertEqual(doctest.testmod(results), (0, 4))

    def test_the_page_runs_as_it_is(self) -> None:
        page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
        names: dict[str, object] = {}
        before = Path.cwd(), torch.get_num_threads()
        printed = io.StringIO()
        try:
            os.chdir(self.folder)
            for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
                with contextlib.redirect_stdout(printed):
                    exec(compile(block, "docs/python.md", "exec"), names)
        finally:
            os.chdir(before[0])
            torch.set_num_threads(before[1])
        self.assertIn("missing.wav: cannot be opened", printed.getvalue())
        self.assertEqual(
            json.loads((self.folder / "talk.json").read_text())["text"], self.folder_text(printed.getvalue())
        )

    def folder_text(self, printed: str) -> str:
        """Return the text that the page's second block printed, the line before the duration."""
        lines = printed.splitlines()
        return lines[next(index for index, line in enumerate(lines) if line.endswith("no warning")) - 1]


if __name__ == "__main__":
    unittest.main()
