"""A checkpoint from elsewhere, with its config beside or inside it, and a module that leaves a mark when imported."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import test as test_command
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.experiment.network import make_network
from hw_asr.experiment.validation import validate

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ROOT / "demo" / "corpus" / "dev" / "Michael-en-gb-179-54-001.opus"
MANIFEST = {"type": "CustomAudioDataset", "args": {"data": "/data/dev.jsonl"}}
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "preprocessing": {"spectrogram": {"type": "MelSpectrogram", "args": {"n_mels": 20}}},
    "arch": {"type": "BaselineModel", "args": {"fc_hidden": 4}},
    "text_encoder": {"type": "CTCCharTextEncoder"},
    "data": {split: {"batch_size": 2, "datasets": [{"type": "FSDDDataset", "args": {"split": "test"}}]}
             for split in ("train", "val")},
    "optimizer": {"type": "Adam"},
    "trainer": {"epochs": 1, "monitor": "off", "beam_size": 3},
}  # fmt: skip
MODULE = """import pathlib
from os import system
from hw_asr.text.encoder import CTCCharTextEncoder
pathlib.Path(__file__).with_name("MARK").touch()
class Letters(CTCCharTextEncoder):
    pass
"""


def changed(**sections: Any) -> dict[str, Any]:
    return {**copy.deepcopy(CONFIG), **sections}


class ReceivedCase(unittest.TestCase):
    """A checkpoint from elsewhere, with its config beside or inside it, and a module that leaves a mark."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "planted_module.py").write_text(MODULE)
        self.mark = self.folder / "MARK"
        sys.path.insert(0, str(self.folder))
        self.addCleanup(sys.path.remove, str(self.folder))
        self.addCleanup(sys.modules.pop, "planted_module", None)

    def checkpoint(self, raw: dict[str, Any], inside: bool = False) -> Path:
        network = make_network(validate(CONFIG), torch.device("cpu"))
        path = self.folder / "saved" / "models" / "tiny" / "run" / "best.pth"
        shutil.rmtree(path.parent, ignore_errors=True)
        state: dict[str, Any] = {
            "state_dict": dict(network.model.state_dict()),
            "alphabet": list("^" + "abcdefghijklmnopqrstuvwxyz "),
        }
        save_checkpoint({**state, **({"config": raw} if inside else {})}, path)
        if not inside:
            (path.parent / "config.json").write_text(json.dumps(raw))
        return path

    def run_test_py(self, checkpoint: Path, *arguments: str) -> tuple[int, str]:
        command = ["test.py", "-r", str(checkpoint), "-o", str(self.folder / "o.json"), "-d", "cpu", *arguments]
        output = io.StringIO()
        with (
            mock.patch.object(sys, "argv", command),
            contextlib.redirect_stderr(output),
            contextlib.redirect_stdout(output),
        ):
            return test_command.main(), output.getvalue()
