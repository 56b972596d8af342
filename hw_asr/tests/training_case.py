"""A corpus of tones and a config for it: real training runs of about a second."""

from __future__ import annotations

import json
import unittest
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.tests.training_server import TrainingServer, training_server
from hw_asr.tests.waiting import wait_until
from hw_asr.writers.jsonl import read_metrics

RATE = 8000
LETTERS = "abcd"


def make_corpus(directory: Path, name: str, number: int, seed: int) -> Path:
    """Write `number` recordings of 0.3-0.8 s, each letter a tone, and their manifest; return its path."""
    random = np.random.default_rng(seed)
    lines = []
    for index in range(number):
        text = "".join(random.choice(list(LETTERS), random.integers(2, 6)))
        length = int(random.uniform(0.12, 0.16) * RATE)
        tones = [np.sin(2 * np.pi * 400 * (1 + LETTERS.index(letter)) * np.arange(length) / RATE) for letter in text]
        samples = np.concatenate(tones) * random.uniform(0.1, 0.5)
        path = directory / f"{name}-{index}.wav"
        soundfile.write(path, samples, RATE)
        lines.append({"path": path.name, "text": text, "duration": len(samples) / RATE})
    manifest = directory / f"{name}.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return manifest


def make_config(directory: Path, **trainer: Any) -> dict[str, Any]:
    """Return a config for the corpora in `directory` that uses everything a resumed run must restore."""

    def split(name: str, **options: Any) -> dict[str, Any]:
        manifest = str(directory / f"{name}.jsonl")
        return {"datasets": [{"type": "CustomAudioDataset", "args": {"data": manifest}}], **options}

    return {
        "name": "tones",
        "preprocessing": {
            "sr": RATE,
            "spectrogram": {"type": "MelSpectrogram", "args": {"n_fft": 256, "hop_length": 128, "n_mels": 16}},
            "normalize": "utterance",
        },
        "augmentations": {
            "wave": [{"type": "RandomNoise", "args": {"p": 0.5}}],
            "spectrogram": [{"type": "FrequencyMasking", "args": {"p": 0.5, "freq_mask_param": 4}}],
        },
        "arch": {
            "type": "DeepSpeech2",
            "args": {
                "cnn_config": {"output_channels": [4], "filters": [[5, 5]], "stride": [[2, 2]]},
                "gru_config": {"hidden_dims": [12, 12], "bidirectional": True, "dropout": 0.2},
            },
        },
        "text_encoder": {"type": "CTCCharTextEncoder", "args": {"alphabet": list(LETTERS)}},
        "data": {
            "train": split("train", num_workers=2, batch_sampler={
                "type": "GroupLengthBatchSampler", "args": {"batch_size": 3, "batches_per_group": 2}
            }),
            "val": split("val", batch_size=4),
            "other": split("other", batch_size=3),
        },
        "optimizer": {"type": "AdamW", "args": {"lr": 0.003}},
        "lr_scheduler": {"type": "OneCycleLR", "args": {"max_lr": 0.02, "total_steps": 100}},
        "metrics": [{"type": "ArgmaxCERMetric"}],
        "trainer": {
            "epochs": 4, "len_epoch": 9, "accumulate_grad_steps": 2, "monitor": "min val_loss", "early_stop": 3,
            "log_step": 2, "keep_last": 2, "wandb_run": "run", "grad_norm_clip": 20, "num_threads": 1, **trainer,
        },
    }  # fmt: skip


class TrainingCase(unittest.TestCase):
    """Tests that start train.py; the corpora are written once per class."""

    corpora: ClassVar[Path]
    server: ClassVar[TrainingServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.corpora = Path(cls.enter_class(TemporaryDirectory()))
        for seed, (name, number) in enumerate((("train", 22), ("val", 7), ("other", 5))):
            make_corpus(cls.corpora, name, number, seed)
        cls.server = training_server()

    @classmethod
    def enter_class(cls, context: Any) -> Any:
        """Enter a context until the tests of the class are done (unittest has this from Python 3.11)."""
        value = context.__enter__()
        cls.addClassCleanup(context.__exit__, None, None, None)
        return value

    def place(self, config: Mapping[str, Any]) -> Path:
        """Return a new directory with `config.json` in it."""
        directory = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        path = Path(directory.name)
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return path

    def config(self, **trainer: Any) -> dict[str, Any]:
        """Return the config of this class's corpora."""
        return make_config(self.corpora, **trainer)

    def endless_config(self) -> dict[str, Any]:
        """Return the same config for a run that a test has to end."""
        return {**self.config(epochs=1000, early_stop=None), "lr_scheduler": None}

    def train(self, place: Path, *arguments: str, code: int = 0) -> str:
        """Run train.py in a directory, check its exit code and return its output."""
        exit_code, output = self.server.run([*arguments, "-d", "cpu"], place)
        self.assertEqual(exit_code, code, output)
        return output


def wait_for_step(output: Path, step: int) -> None:
    """Wait until training has logged a step; fail with its output if it ends with an error."""

    def text() -> str:
        return output.read_text(encoding="utf-8")

    wait_until(lambda: f"step {step:>6}" in text() or "error: " in text(), lambda: f"for step {step}:\n{text()}")
    assert f"step {step:>6}" in text(), text()


def run_dir(place: Path) -> Path:
    """Return the checkpoint directory of the run of `make_config`."""
    return place / "saved/models/tones/run"


def outcome(place: Path, name: str = "last") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the checkpoint and the metrics of a run, without times."""
    state = load_checkpoint(run_dir(place) / f"{name}.pth")
    del state["writers"], state["config"]
    state["progress"].pop("seconds", None)
    metrics = [
        {name: value for name, value in line.items() if name not in ("time", "train_audio_seconds_per_second")}
        for line in read_metrics(place / "saved/log/tones/run/metrics.jsonl")
    ]
    return state, metrics


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """List the paths under which two nested structures of tensors and plain data differ."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = sorted(a.keys() | b.keys(), key=str)
        return [item for key in keys for item in differences(a.get(key), b.get(key), f"{path}.{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [item for index, (x, y) in pairs for item in differences(x, y, f"{path}[{index}]")]
    return [] if a == b else [f"{path}: {a!r:.60} / {b!r:.60}"]
