"""A tiny checkpoint, some recordings of the demo, and test.py on them, for tests of recognition."""

from __future__ import annotations

import contextlib
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

import test as entry_point
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.config import parse
from hw_asr.experiment.network import make_network

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "demo" / "corpus"
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "preprocessing": {"spectrogram": {"type": "MelSpectrogram", "args": {"n_mels": 20, "hop_length": 160}}},
    "arch": {
        "type": "DeepSpeech2",
        "args": {
            "cnn_config": {"output_channels": [4], "filters": [[11, 11]], "stride": [[2, 2]]},
            "gru_config": {"hidden_dims": [12, 12], "bidirectional": True},
        },
    },
    "data": {"train": {"batch_size": 5, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "none.jsonl"}}]}},
    "optimizer": {"type": "Adam"},
    "trainer": {"epochs": 1, "monitor": "off", "beam_size": 5},
}


class TranscribeCase(unittest.TestCase):
    """The model has random weights: its texts are nonsense, but the same for the same recording."""

    folder: Path
    checkpoint: Path
    audio: Path

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        run = cls.folder / "saved" / "models" / "tiny" / "one"
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps(CONFIG))
        cls.network = make_network(parse(CONFIG), torch.device("cpu"))
        with torch.no_grad():
            cls.network.model.linear.weight.mul_(30)  # type: ignore[union-attr,operator]
        cls.network.model.eval()
        cls.checkpoint = run / "model_best.pth"
        save_checkpoint({"arch": "DeepSpeech2", "state_dict": cls.network.model.state_dict()}, cls.checkpoint)
        cls.audio = cls.folder / "data" / "audio"
        cls.texts = cls.folder / "data" / "transcriptions"
        cls.audio.mkdir(parents=True)
        cls.texts.mkdir()
        rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text().splitlines()[:33]]
        for number, row in enumerate(rows):
            shutil.copy(CORPUS / row["path"], cls.audio / f"{number:02d}.opus")
            if number != 32:
                (cls.texts / f"{number:02d}.txt").write_text(row["text"].upper() + "!\n")

    def run_test(self, *arguments: str, code: int = 0, keep_output: bool = False) -> tuple[list[dict[str, Any]], str]:
        output = self.folder / "output.json"
        if not keep_output:
            output.unlink(missing_ok=True)
        printed, errors = io.StringIO(), io.StringIO()
        command = ["test.py", "-r", str(self.checkpoint), "-o", str(output), "-d", "cpu", *arguments]
        streams = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors)
        with mock.patch.object(sys, "argv", command), streams[0], streams[1]:
            found = entry_point.main()
        self.assertEqual(code, found, errors.getvalue())
        entries = json.loads(output.read_text()) if output.exists() else []
        return entries, printed.getvalue() + errors.getvalue()
