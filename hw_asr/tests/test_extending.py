"""docs/extending.md does what it says: its code blocks are written to files, its JSON trains a model with them."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

import torch

from hw_asr.config import overlay
from hw_asr.experiment.components import PROVIDED
from hw_asr.models.forward import run_all_layers, run_model
from hw_asr.tests.training_case import TrainingCase, run_dir
from hw_asr.writers.jsonl import read_metrics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
MAX_LINES = 20


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def file_name(block: str) -> str:
    return block.splitlines()[0].removeprefix("# ")


class ExtendingTest(TrainingCase):
    pairs: ClassVar[dict[str, tuple[str, dict[str, Any]]]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        fragments = [json.loads(block) for block in blocks("json")]
        cls.pairs = {file_name(code): (code, each) for code, each in zip(blocks("python"), fragments, strict=True)}

    def prepare(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Return a directory with a page's file in it, and the config of tones with the page's JSON over it."""
        _, fragment = self.pairs[name]
        base = {**self.config(epochs=1, len_epoch=2, accumulate_grad_steps=1, log_step=1), "n_gpu": 0}
        place = self.place(overlay(base, fragment))
        for other, (text, _) in self.pairs.items():  # one builds on another
            (place / other).write_text(text, encoding="utf-8")
        return place, json.loads((place / "config.json").read_text(encoding="utf-8"))

    def load(self, name: str) -> ModuleType:
        place, _ = self.prepare(name)
        spec = importlib.util.spec_from_file_location(Path(name).stem, place / name)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        for other in self.pairs:  # they import each other
            self.addCleanup(sys.modules.pop, Path(other).stem, None)
        with mock.patch.object(sys, "path", [str(place), *sys.path]):
            spec.loader.exec_module(module)
        return module

    def trained(self, name: str) -> tuple[Path, dict[str, float]]:
        """Train two steps with a page's file; return where, and what was measured."""
        place, _ = self.prepare(name)
        self.train(place, "-c", "config.json")
        lines = read_metrics(place / "saved/log/tones/run/metrics.jsonl")
        return place, {key: value for line in lines for key, value in line.items()}

    def test_each_is_short(self) -> None:
        self.assertEqual(len(self.pairs), 7)
        for name, (code, _) in self.pairs.items():
            body = code.split("\n\n\n", 1)[1]
            self.assertLess(len([line for line in body.splitlines() if line.strip()]), MAX_LINES, name)

    def test_model(self) -> None:
        place, values = self.trained("my_models.py")
        self.assertIn("val_loss", values)
        self.assertTrue((run_dir(place) / "last.pth").is_file())
        model = self.load("my_models.py").ConvNet(n_feats=5, n_class=3)
        spectrogram, lengths = torch.randn(2, 5, 30), torch.tensor([30, 12])
        spectrogram[1, :, 12:] = 7.0
        alone = model(spectrogram[1:, :, :12], lengths[1:])
        torch.testing.assert_close(model(spectrogram, lengths)[1:, :12], alone)

    def test_model_with_intermediate_layers(self) -> None:
        place, _ = self.trained("my_intermediate_models.py")
        raw = json.loads((place / "config.json").read_text(encoding="utf-8"))
        raw["text_encoder"]["args"]["alphabet"] = "dcab"
        raw["trainer"]["wandb_run"] = "reordered"
        (place / "config.json").write_text(json.dumps(raw), encoding="utf-8")
        output = self.train(place, "-c", "config.json", "-r", str(run_dir(place) / "last.pth"))
        self.assertIn("; 4 of 4 characters carried over", output)
        model = self.load("my_intermediate_models.py").TwoHeads(n_feats=5, n_class=3)
        spectrogram, lengths = torch.randn(2, 5, 30), torch.tensor([30, 12])
        log_probs, _, (inner,) = run_all_layers(model, spectrogram, lengths, "fp32")
        plain, _ = run_model(model, spectrogram, lengths, "fp32")
        torch.testing.assert_close(log_probs, plain, rtol=0, atol=0)
        self.assertEqual(inner.shape, plain.shape)
        self.assertFalse(torch.allclose(inner, plain))

    def test_front_end(self) -> None:
        self.trained("my_front_ends.py")
        front_end = self.load("my_front_ends.py").Frames(sample_rate=1000, milliseconds=4)
        features, frames = front_end(torch.arange(22.0).view(2, 11), torch.tensor([11, 7]))
        self.assertEqual(frames.tolist(), [2, 1])
        expected = [[[0, 4], [1, 5], [2, 6], [3, 7]], [[11, 0], [12, 0], [13, 0], [14, 0]]]
        self.assertEqual(features.tolist(), expected)
        self.assertEqual([part.tolist() for part in front_end(torch.ones(1, 3), torch.tensor([3]))], [[[[0]] * 4], [0]])

    def test_dataset(self) -> None:
        place, _ = self.prepare("my_datasets.py")
        (place / "recordings").mkdir()
        for index, entry in enumerate((self.corpora / "train.jsonl").read_text(encoding="utf-8").splitlines()):
            line = json.loads(entry)
            shutil.copy(self.corpora / line["path"], place / "recordings" / f"{line['text']}-{index}.wav")
        printed = self.train(place, "-c", "config.json")
        self.assertIn("train: 22 utterances", printed)
        self.assertIn("val: 5 utterances", printed)

    def test_augmentation(self) -> None:
        self.trained("my_augmentations.py")
        clipping = self.load("my_augmentations.py").Clipping(p=1.0, level=0.5)
        samples = torch.tensor([[0.1, -0.8, 0.4, 0.0], [0.2, 0.1, 0.0, 0.0]])
        clipped, lengths = clipping(samples, torch.tensor([4, 2]), torch.Generator().manual_seed(0))
        torch.testing.assert_close(clipped, torch.tensor([[0.1, -0.4, 0.4, 0.0], [0.1, 0.1, 0.0, 0.0]]))
        self.assertEqual(lengths.tolist(), [4, 2])

    def test_decoder(self) -> None:
        _, values = self.trained("my_decoders.py")
        self.assertEqual(values["val_WER (cautious)"], 1.0, "a network of two steps is sure of nothing")

    def test_metric(self) -> None:
        _, values = self.trained("my_metrics.py")
        self.assertEqual(values["val_SER (argmax)"], 1.0)
        metric = self.load("my_metrics.py").SentenceErrorMetric()
        for reference, text in (("a b", "a b"), ("c", "d"), ("e", "e"), ("", "")):
            metric.update(reference, {"argmax": text})
        self.assertEqual(metric.compute()["SER (argmax)"], 0.25)

    def test_wrong_arguments_of_ones_own_are_explained(self) -> None:
        place, config = self.prepare("my_models.py")
        config["arch"]["args"] = {"chanels": 32}
        config["metrics"] = [{"type": "ArgmaxWERMetric", "module": "no_such_module"}]
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
        printed = self.train(place, "-c", "config.json", "--check", code=2)
        self.assertIn("arch.args.chanels: unknown key; did you mean 'channels'?", printed)
        self.assertIn("metrics[0].module: cannot import 'no_such_module'", printed)

    def test_what_the_page_says_is_given_is_given(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        for names in PROVIDED.values():
            for name in set(names) - {"params", "optimizer"}:
                self.assertIn(f"`{name}`", text)


if __name__ == "__main__":
    unittest.main()
