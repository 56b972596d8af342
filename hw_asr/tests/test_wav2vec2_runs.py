"""A pretrained encoder from its download to transcripts: train.py and test.py with a small model served by the test."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import soundfile
import torch

import test as test_command
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.experiment.network import Network
from hw_asr.pretrained.waveform import Waveform
from hw_asr.recognition.waveform_model import TorchWaveformModel
from hw_asr.tests.arpa_example import ArpaExample
from hw_asr.tests.fault_server import FaultServer, fault_server
from hw_asr.tests.test_wav2vec2 import Wav2Vec2Case
from hw_asr.tests.training_case import LETTERS, differences, make_config, make_corpus, outcome, run_dir
from hw_asr.tests.training_server import training_server
from hw_asr.text.encoder import CTCCharTextEncoder

MODULE = "hw_asr.tests.small_wav2vec2"
NUM_RECORDINGS = 33
CHUNK_SECONDS, LONG_SECONDS = 13, 30.0


def config_of(directory: Path, server: FaultServer) -> dict[str, Any]:
    """Return a config of two epochs of three steps; the encoder is frozen in the first one."""
    transfer = {"freeze": ["encoder"], "unfreeze_after_epochs": 1}
    trainer = {"epochs": 2, "len_epoch": 3, "accumulate_grad_steps": 1, "keep_last": None, "transfer": transfer}
    raw = make_config(directory, **trainer)
    raw["preprocessing"] = {"sr": 16000, "spectrogram": {"type": "Waveform"}}
    model = {"bundle": "GROUP_NORM", "mask_prob": 0.3, "mask_length": 2, "weights_dir": "weights"}
    raw["arch"] = {"type": "Wav2Vec2", "module": MODULE, "args": {**model, "base_url": server.url}}
    raw["data"]["train"]["num_workers"] = 0
    raw["augmentations"]["spectrogram"] = []
    raw["text_encoder"]["args"]["alphabet"] = f"{LETTERS} "
    raw["optimizer"]["groups"] = [
        {"match": "encoder.transformer.layers", "lr_scale": 0.5, "layer_decay": 0.8},
        {"match": "encoder", "lr_scale": 0.3},
    ]
    return raw


class RunsTest(Wav2Vec2Case):
    directory: ClassVar[Path]
    server: ClassVar[FaultServer]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        cls.directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cls.server = stack.enter_context(fault_server())
        for seed, (name, number) in enumerate((("train", 12), ("val", 4), ("other", 4))):
            make_corpus(cls.directory, name, number, seed)

    def train(self, place: Path, *arguments: str) -> None:
        """Run train.py in a process that a server forks, which has no threads; this one may have some."""
        code, output = training_server().run([*arguments, "-d", "cpu"], place)
        self.assertEqual(code, 0, output)

    def make_place(self, name: str) -> Path:
        place = self.directory / name
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config_of(self.directory, self.server)), encoding="utf-8")
        return place

    def test_from_the_download_to_transcripts(self) -> None:
        names = ("feature_extractor.", "encoder.")
        state = self.model("group_norm").state_dict()
        published = {name: value for name, value in state.items() if name.startswith(names)}
        file = io.BytesIO()
        torch.save(published, file)
        self.server.files["/group_norm.pth"] = file.getvalue()
        place = self.make_place("whole")
        self.train(place, "-c", "config.json")
        with self.subTest("the encoder is the published one while it is frozen, then it is trained"):
            one, two = (load_checkpoint(run_dir(place) / f"checkpoint-epoch{n}.pth")["state_dict"] for n in (1, 2))
            for name, value in published.items():
                self.assertTrue(torch.equal(one[name], value), name)
                if not name.endswith("k_proj.bias"):  # without effect on attention, so its gradient is rounding
                    self.assertEqual(torch.equal(two[name], value), name.startswith("feature_extractor."), name)
            self.assertFalse(torch.equal(one["linear.weight"], two["linear.weight"]))
        self.server.files.clear()
        shutil.rmtree(place / "weights")
        with self.subTest("a run that is continued is the same, without the server"):
            again = self.make_place("continued")
            shutil.copytree(place / "saved", again / "saved")
            for path in run_dir(again).glob("*.pth"):
                if path.name != "checkpoint-epoch1.pth":
                    path.unlink()
            checkpoint = str(run_dir(again) / "checkpoint-epoch1.pth")
            self.train(again, "-r", checkpoint, "--trust-config", "--allow-module", MODULE)
            self.assertEqual(differences(outcome(place), outcome(again)), [])
        with self.subTest("test.py with every decoder, in any batch, also for a long recording"):
            self.assert_transcripts(place)

    def assert_transcripts(self, place: Path) -> None:
        folder = self.directory / "recordings"
        folder.mkdir()
        make_corpus(folder, "x", NUM_RECORDINGS, 9)
        (folder / "x.jsonl").unlink()
        parts = [soundfile.read(path)[0] for path in sorted(folder.glob("*.wav"))]
        whole = np.resize(np.concatenate(parts), int(8000 * LONG_SECONDS))
        soundfile.write(folder / "long.wav", whole, 8000)
        ArpaExample(["ab", "cd", "a"], 2, 0).write(place / "lm.arpa")
        names = ("argmax", "beam_search", "lm_beam_search")
        decoders = [{"type": name} for name in names]
        decoders[2]["args"] = {"language_model": str(place / "lm.arpa")}
        (place / "overlay.json").write_text(json.dumps({"decoders": decoders}), encoding="utf-8")
        checkpoint = str(run_dir(place) / "last.pth")
        results = []
        for size in ("1", "32"):
            output = place / f"output-{size}.json"
            command = [
                "test.py", "-r", checkpoint, "-c", str(place / "overlay.json"), "-t", str(folder), "-d", "cpu",
                "-b", size, "--chunk-seconds", str(CHUNK_SECONDS), "-o", str(output), "--allow-module", MODULE,
            ]  # fmt: skip
            printed = io.StringIO()
            streams = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed)
            with mock.patch.object(sys, "argv", command), streams[0], streams[1]:
                code = test_command.main()
            self.assertEqual(code, 0, printed.getvalue())
            entries = json.loads(output.read_text(encoding="utf-8"))
            results.append({Path(entry["audio_path"]).name: entry for entry in entries})
        self.assertEqual(len(results[0]), NUM_RECORDINGS + 1)
        for name, entry in results[0].items():
            other = results[1][name]
            self.assertEqual(entry["pred_text_argmax"], other["pred_text_argmax"], name)
            for decoder in names[1:]:
                best, other_best = (found[f"pred_text_{decoder}"][0][0] for found in (entry, other))
                self.assertEqual(best, other_best, name)
            times = [[(word["word"], word["start"]) for word in found["words"]] for found in (entry, other)]
            self.assertEqual(times[0], times[1], name)
            for one, two in zip(entry["segments"], other["segments"], strict=True):
                self.assertAlmostEqual(one["log_prob"], two["log_prob"], delta=1e-2, msg=name)
        self.assertEqual(results[0]["long.wav"]["duration"], LONG_SECONDS)

    def test_logits_do_not_depend_on_the_batch_and_long_recordings_keep_their_times(self) -> None:
        model = self.model("layer_norm")
        for layer in model.encoder.transformer.layers:  # no attention: a frame sees only what is around it
            torch.nn.init.zeros_(layer.attention.out_proj.weight)
            torch.nn.init.zeros_(layer.attention.out_proj.bias)
        network = Network(Waveform(), model, CTCCharTextEncoder(LETTERS + "ef"))
        recogniser = TorchWaveformModel(network, 16000, torch.device("cpu"))
        self.assertEqual(recogniser.seconds_per_frame, 0.02)
        generator = np.random.default_rng(0)
        samples = [generator.normal(size=size).astype(np.float32) for size in generator.integers(1, 9000, 32)]
        alone = [recogniser.batch([one])[0] for one in samples]
        for size in (7, 32):
            together = [row for start in range(0, 32, size) for row in recogniser.batch(samples[start : start + size])]
            for one, row in zip(alone, together, strict=True):
                np.testing.assert_allclose(row, one, rtol=0, atol=1e-4)
        long = generator.normal(size=int(16000 * LONG_SECONDS) + 123).astype(np.float32)
        expected = recogniser.batch([long])[0]
        pieces = np.concatenate(list(recogniser.long(long, CHUNK_SECONDS, None)))
        self.assertEqual(len(pieces), len(expected))
        np.testing.assert_allclose(pieces, expected, rtol=0, atol=0.02)
        self.assertGreater(np.abs(np.roll(pieces, 1, axis=0) - expected).max(), 0.5)


if __name__ == "__main__":
    unittest.main()
