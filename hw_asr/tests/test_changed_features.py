"""Weights that belong to other features or another alphabet: a warning where they start a run, or are averaged."""

from __future__ import annotations

import copy
import tempfile
import unittest
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.commands.average import average_checkpoints
from hw_asr.config import override, parse
from hw_asr.experiment.changed_features import changed_features
from hw_asr.experiment.network import make_network
from hw_asr.experiment.transfer import load_initial_weights, read_weights
from hw_asr.tests.training_case import make_config

RAW = make_config(Path())
HOP = "preprocessing.spectrogram.args.hop_length"
CHANGES = {HOP: 64, "preprocessing.normalize": "none"}


def changed(**values: Any) -> dict[str, Any]:
    return override(RAW, [f"{key}={value}" for key, value in (values or CHANGES).items()])


class ChangedFeaturesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def checkpoint(self, name: str, raw: dict[str, Any], alphabet: str = "-abcd") -> Path:
        state = make_network(parse(RAW), torch.device("cpu")).model.state_dict()
        save_checkpoint({"state_dict": state, "alphabet": list(alphabet), "config": raw}, self.folder / name)
        return self.folder / name

    def test_which_keys_differ(self) -> None:
        self.assertEqual(changed_features(changed(), RAW), ["preprocessing.normalize", HOP])
        self.assertEqual(changed_features(RAW, {**RAW, "name": "other"}), [])
        explicit = changed(**{"preprocessing.log_spec": "true", "preprocessing.spectrogram.args.power": 2.0})
        self.assertEqual(changed_features(RAW, explicit), [])
        other = changed(**{"preprocessing.spectrogram.module": "no_such_module"})
        self.assertIn("preprocessing.spectrogram.module", changed_features(RAW, other))
        for nothing in (None, {"preprocessing": 3}, {"preprocessing": {"spectrogram": {"args": {}}}}):
            self.assertEqual(changed_features(nothing, RAW), [])

    def test_a_run_that_starts_from_them(self) -> None:
        config = parse(copy.deepcopy(RAW))
        network = make_network(config, torch.device("cpu"))
        with self.assertLogs("hw_asr.experiment.transfer", "WARNING") as logs:
            load_initial_weights(config, network, read_weights(self.checkpoint("a.pth", changed())))
        self.assertRegex(logs.output[0], f"a.pth was trained on other features.*normalize, {HOP}$")
        with self.assertNoLogs("hw_asr.experiment.transfer", "WARNING"):
            load_initial_weights(config, network, read_weights(self.checkpoint("b.pth", RAW)))

    def test_averages(self) -> None:
        paths = [self.checkpoint("a.pth", changed()), self.checkpoint("b.pth", RAW)]
        with self.assertLogs("hw_asr.commands.average", "WARNING") as logs:
            average_checkpoints(paths, self.folder / "average.pth")
        self.assertEqual(len(logs.output), 1)
        self.assertRegex(logs.output[0], "a.pth was trained on other features than .*b.pth: preprocessing.normalize")
        other = self.checkpoint("c.pth", RAW, "-bacd")
        with self.assertRaisesRegex(CheckpointError, "b.pth: its alphabet differs from that of .*c.pth"):
            average_checkpoints([paths[1], other], self.folder / "mixed.pth")
        self.assertFalse((self.folder / "mixed.pth").exists())
        save_checkpoint({"state_dict": load_checkpoint(other)["state_dict"]}, self.folder / "old.pth")
        average_checkpoints([self.folder / "old.pth", other], self.folder / "average.pth")  # it may have the same


if __name__ == "__main__":
    unittest.main()
