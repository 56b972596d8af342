"""A received config is refused before it costs minutes or gigabytes; a limit that it raises needs permission."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import hw_asr
from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.commands.run_directory import save_dir_of_copy
from hw_asr.commands.train_check import check
from hw_asr.commands.train_request import Request
from hw_asr.config import ConfigError
from hw_asr.config.size import MAX_FAULTS
from hw_asr.decoders.hotwords import read_hotwords
from hw_asr.experiment import network, network_limits
from hw_asr.experiment.checkpoint_config import for_evaluation, for_training
from hw_asr.experiment.config_permissions import Named
from hw_asr.experiment.validation import validate
from hw_asr.storage.runs import Run
from hw_asr.tests.received_case import ReceivedCase, changed
from hw_asr.text.encoder import CTCCharTextEncoder


def spectrogram(**args: int) -> dict[str, Any]:
    return changed(preprocessing={"spectrogram": {"type": "MelSpectrogram", "args": args}})


def trainer(**values: object) -> dict[str, Any]:
    return changed(trainer={"epochs": 1, "monitor": "off", **values})


class ConfigLimitsTest(ReceivedCase):
    def refused(self, raw: dict[str, Any], words: str) -> None:
        with self.subTest(words), self.assertRaisesRegex(ConfigError, words):
            for_training(self.checkpoint(raw), Named())

    def test_sizes_are_refused_before_anything_is_allocated(self) -> None:
        convolution = {"output_channels": [2], "filters": [[11, 11]], "stride": [[2, 2]]}
        layers = {"hidden_dims": [8] * 20_000}
        many_layers = {"type": "DeepSpeech2", "args": {"cnn_config": convolution, "gru_config": layers}}
        with mock.patch.object(network_limits, "MAX_MODULES", 200):
            self.refused(changed(arch=many_layers), "arch.args: the model has more than 200 modules")
            self.refused(changed(arch={"type": "Conformer", "args": {"num_layers": 10**6}}), "more than 200 modules")
        self.refused(spectrogram(n_fft=2**40, n_mels=20), "preprocessing: its filters and window have .* elements")
        self.refused(spectrogram(n_fft=400, n_mels=10**9), "preprocessing: its filters and window have .* elements")
        mfcc = {"type": "MFCC", "args": {"n_mfcc": 10**6, "melkwargs": {"n_mels": 10**6}}}
        self.refused(
            changed(preprocessing={"spectrogram": mfcc, "log_spec": False}), "its filters and window have .* elements"
        )

    def test_examining_a_config_does_not_import_the_compiler_of_torch(self) -> None:
        path = Path(hw_asr.__file__).parent / "configs/demo.json"
        faulty = {"trainer.epochs": 0, "optimizer.args.lr": "0,1"}
        code = f"""
import json, sys
from hw_asr.config import override
from hw_asr.experiment.validation import examine
raw = json.loads(open({str(path)!r}, encoding="utf-8").read())
assert not examine(raw).faults
assert len(examine(override(raw, {[f"{key}={value}" for key, value in faulty.items()]!r})).faults) == 2
sys.exit("torch._dynamo" in sys.modules)
"""
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)

    def test_values_that_cost_memory_or_time_later(self) -> None:
        self.refused(spectrogram(hop_length=1, n_mels=20), "hop_length: 1 samples at 16000 Hz are less than a milli")
        for rate in (1, 10**9):
            self.refused(changed(preprocessing={"sr": rate}), f"preprocessing.sr: .* got {rate}")
        for hours in (-1, 0, float("nan")):
            with self.assertRaisesRegex(ConfigError, "preprocessing.max_audio_hours: expected a (positive )?number"):
                validate(changed(preprocessing={"max_audio_hours": hours}))
        for threads in (0, -1, 10**9):
            self.refused(trainer(num_threads=threads), "trainer.num_threads: expected 1 to 1024")
        self.refused(trainer(visualize=["tensorboard"] * 3), "trainer.visualize: names a writer more than once")
        for size in (10**5, 2**70):
            for name in ("beam_size", "n_best"):
                decoder = {"type": "beam_search", "args": {name: size}}
                self.refused(
                    changed(decoders=[decoder]), f"decoders.0..args: {name}: expected a number between 1 and 10000"
                )
        encoder = CTCCharTextEncoder()
        with self.assertRaisesRegex(ValueError, "hotwords: 300000 characters in all; expected at most 200000"):
            read_hotwords(["a" * 300_000], 1.0, encoder)

    def test_many_keys_and_faults_end_early(self) -> None:
        for raw in (
            changed(decoders=[{"type": "x"}] * 20_000),
            changed(arch={"type": "x", "module": "y", "args": {f"a{index}": "/b" for index in range(20_000)}}),
            changed(data={f"split{index}": {"datasets": []} for index in range(20_000)}),
        ):
            for inside in (False, True):
                with self.assertRaisesRegex(ConfigError, "1 fault\n.*more than 10000 keys and components"):
                    for_evaluation(self.checkpoint(raw, inside), Named(), lambda split: False)
        with self.assertRaises(ConfigError) as caught:
            validate(changed(decoders=[{"type": "x"}] * 3000))
        self.assertEqual(MAX_FAULTS + 1, len(caught.exception.faults))
        self.refused(trainer(monitor="min " + "x" * 10**5), r"^(.|\n){,5000}$")

    def test_many_entries_of_one_argument_are_not_keys(self) -> None:
        manifest = [{"path": f"{index}.wav", "text": "a"} for index in range(5000)]
        config = changed(data={"train": {"batch_size": 1, "datasets": [
            {"type": "CustomAudioDataset", "args": {"data": manifest}}]}})  # fmt: skip
        self.assertEqual(5000, len(validate(config).data["train"].datasets[0]["args"]["data"]))

    def test_a_module_that_is_not_a_name_is_refused(self) -> None:
        for module in (["os"], {"os": 1}, 1, False, ""):
            raw = changed(text_encoder={"type": "system", "module": module})
            with self.assertRaisesRegex(ConfigError, "text_encoder.module: "):
                for_evaluation(self.checkpoint(raw), Named(), lambda split: False)

    def test_a_raised_limit_on_recordings_needs_permission(self) -> None:
        checkpoint = self.checkpoint(changed(preprocessing={**changed()["preprocessing"], "max_audio_hours": 1e9}))
        with self.assertLogs("hw_asr", "WARNING") as logs:
            config = for_evaluation(checkpoint, Named(), lambda split: False).config
        self.assertEqual(12.0, config.preprocessing.max_audio_hours)
        self.assertIn("preprocessing.max_audio_hours: limit above the default 1000000000.0", logs.output[0])
        with self.assertRaisesRegex(ConfigError, "preprocessing.max_audio_hours: .*--trust-config"):
            for_training(checkpoint, Named())
        named = Named(assignments=["preprocessing.max_audio_hours=20"])
        self.assertEqual(
            20, for_evaluation(checkpoint, named, lambda split: False).config.preprocessing.max_audio_hours
        )

    def test_a_home_directory_is_outside(self) -> None:
        checkpoint = self.checkpoint(trainer(save_dir="~/elsewhere"))
        run, config = Run.of_checkpoint(checkpoint), for_training(checkpoint, Named()).config
        place = save_dir_of_copy(run, config, Request(None, checkpoint))
        self.assertEqual(run.model_dir.absolute().parents[2], place)
        self.refused(changed(data={**changed()["data"], "root_dir": "~"}), 'data.root_dir: path or address "~"')

    def test_a_network_other_than_the_weights_is_not_built_to_resume(self) -> None:
        checkpoint = self.checkpoint(changed(arch={"type": "BaselineModel", "args": {"fc_hidden": 30_000}}))
        save_checkpoint({**load_checkpoint(checkpoint), "format": 1}, checkpoint)
        request = Request(None, checkpoint, device="cpu")
        with (
            mock.patch("hw_asr.commands.train_check.make_network") as make,
            self.assertRaisesRegex(ConfigError, "weights of another architecture"),
        ):
            check(request)
        make.assert_not_called()
        config = validate(json.loads((checkpoint.parent / "config.json").read_text()))
        state = load_checkpoint(checkpoint)["state_dict"]
        with self.assertRaisesRegex(CheckpointError, "weights of another architecture"):
            network.load_network(config, torch.device("cpu"), state, checkpoint)
