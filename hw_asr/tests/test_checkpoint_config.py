"""A config that arrives with a checkpoint is data: its modules, storages, addresses and paths need permission."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socket
import sys
import unittest
from typing import Any
from unittest import mock

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import ConfigError
from hw_asr.config.registry import SCHEDULERS
from hw_asr.experiment.checkpoint_config import for_evaluation, for_training
from hw_asr.experiment.config_effects import effects
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.tests.received_case import AUDIO, CONFIG, MANIFEST, ReceivedCase, changed
from scripts import average_checkpoints
from scripts.language_model import tune as tune_command


class ModuleTest(ReceivedCase):
    letters = changed(text_encoder={"type": "Letters", "module": "planted_module"})

    def test_is_refused_by_name_and_not_imported(self) -> None:
        for inside in (False, True):
            code, output = self.run_test_py(self.checkpoint(self.letters, inside), "-t", str(AUDIO))
            self.assertEqual(2, code)
            self.assertIn("text_encoder.module: ", output)
            self.assertIn("--allow-module planted_module", output)
        self.assertNotIn("planted_module", sys.modules)
        self.assertFalse(self.mark.exists())

    def test_works_when_allowed_or_named(self) -> None:
        checkpoint = self.checkpoint(self.letters)
        self.assertEqual(0, self.run_test_py(checkpoint, "-t", str(AUDIO), "--allow-module", "planted_module")[0])
        overlay = self.folder / "overlay.json"
        overlay.write_text(json.dumps({"text_encoder": self.letters["text_encoder"]}))
        self.assertEqual(0, self.run_test_py(checkpoint, "-t", str(AUDIO), "-c", str(overlay))[0])
        self.assertEqual(
            0, self.run_test_py(checkpoint, "-t", str(AUDIO), "--set", "text_encoder.module=planted_module")[0]
        )

    def test_trusting_the_config_allows_no_module(self) -> None:
        self.assertEqual(2, self.run_test_py(self.checkpoint(self.letters), "-t", str(AUDIO), "--trust-config")[0])

    def test_every_place_of_a_module_is_refused_for_training(self) -> None:
        spec = {"type": "X", "module": "planted_module"}
        data = {"train": {"batch_sampler": spec, "datasets": [spec]}}
        for section in ("arch", "text_encoder", "optimizer", "loss", "lr_scheduler"):
            self.refused_for_training(changed(**{section: spec}), section)
        self.refused_for_training(changed(metrics=[spec]), "metrics[0]")
        self.refused_for_training(changed(decoders=[spec]), "decoders[0]")
        self.refused_for_training(changed(augmentations={"wave": [spec]}), "augmentations.wave[0]")
        self.refused_for_training(changed(augmentations={"spectrogram": [spec]}), "augmentations.spectrogram[0]")
        self.refused_for_training(changed(preprocessing={"spectrogram": spec}), "preprocessing.spectrogram")
        self.refused_for_training(changed(data=data), "data.train.datasets[0]")
        self.refused_for_training(changed(data=data), "data.train.batch_sampler")
        self.assertNotIn("planted_module", sys.modules)

    def refused_for_training(self, raw: dict[str, Any], path: str) -> None:
        with self.subTest(path), self.assertRaises(ConfigError) as caught:
            for_training(self.checkpoint(raw), Named())
        self.assertTrue(any(fault.startswith(f"{path}.module: ") for fault in caught.exception.faults))

    def test_a_name_that_an_allowed_module_only_imports_is_refused(self) -> None:
        planted = self.folder / "planted"
        raw = changed(
            text_encoder={"type": "system", "module": "planted_module", "args": {"command": f"touch {planted}"}}
        )
        code, output = self.run_test_py(self.checkpoint(raw), "-t", str(AUDIO), "--allow-module", "planted_module")
        self.assertEqual(2, code)
        self.assertIn("'system' is not defined in 'planted_module'", output)
        self.assertFalse(planted.exists())

    def test_what_only_training_uses_does_not_hinder_recognition(self) -> None:
        raw = changed(
            optimizer={"type": "Mine", "module": "planted_module"},
            metrics=[{"type": "Mine", "module": "planted_module"}],
            trainer={"epochs": 1, "external_storage": {"type": "FsspecStorage", "args": {"url": "ftp://x/y"}}},
            data={"train": {"batch_size": 2, "num_workers": 10**6, "datasets": [MANIFEST]}},
        )  # fmt: skip
        self.assertEqual(0, self.run_test_py(self.checkpoint(raw), "-t", str(AUDIO))[0])
        self.assertNotIn("planted_module", sys.modules)

    def test_averaging_imports_nothing(self) -> None:
        checkpoint = self.checkpoint(self.letters, inside=True)
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(0, average_checkpoints.main([str(checkpoint)] * 2 + ["-o", str(self.folder / "a.pth")]))
        self.assertEqual("planted_module", load_checkpoint(self.folder / "a.pth")["config"]["text_encoder"]["module"])
        self.assertNotIn("planted_module", sys.modules)

    def test_tuning_refuses(self) -> None:
        output, checkpoint = io.StringIO(), self.checkpoint(self.letters)
        model = checkpoint.with_name("lm.arpa")
        model.touch()
        with contextlib.redirect_stderr(output):
            code = tune_command.main(["-r", str(checkpoint), "--lm", str(model), "-o", "o.json"])
        self.assertEqual(2, code)
        self.assertIn("--allow-module planted_module", output.getvalue())


class EffectsTest(ReceivedCase):
    def test_paths_addresses_storages_and_writers_are_effects_and_defaults_are_not(self) -> None:
        self.assertEqual([], effects(CONFIG))
        raw = changed(
            data={"root_dir": "/data", "val": {"batch_size": 1, "datasets": [
                MANIFEST,
                {"type": "LibrispeechDataset", "args": {"part": "dev-clean", "url": "http://127.0.0.1/x", "limit": 3}},
                {"type": "FSDDDataset", "args": {"split": "test", "data_dir": "/data", "index_dir": None}},
            ]}},
            text_encoder={"type": "LibrispeechKenLMCTCCharTextEncoder", "args": {
                "model": "/etc/passwd", "models_dirpath": "/x", "base_url": "http://127.0.0.1/"}},
            decoders=[{"type": "lm_beam_search", "args": {"language_model": "/lm.arpa", "alpha": 0.5}}],
            augmentations={"wave": [{"type": "BackgroundNoise", "args": {"noise_dir": "/noise"}}]},
            arch={"type": "Mine", "module": "mine", "args": {"file": "a/b", "nested": [{"c": "$HOME"}], "name": "abc"}},
            trainer={"epochs": 1, "visualize": ["wandb"], "wandb_project": "p", "save_dir": "/saved",
                     "external_storage": {"type": "DirectoryStorage", "args": {"path": "/share"}}},
        )  # fmt: skip
        found = {effect.path: effect.value for effect in effects(raw)}
        self.assertEqual(
            {"data.root_dir": "/data", "data.val.datasets[0].args.data": "/data/dev.jsonl",
             "data.val.datasets[1].args.url": "http://127.0.0.1/x", "data.val.datasets[2].args.data_dir": "/data",
             "text_encoder.args.model": "/etc/passwd", "text_encoder.args.models_dirpath": "/x",
             "text_encoder.args.base_url": "http://127.0.0.1/", "decoders[0].args.language_model": "/lm.arpa",
             "augmentations.wave[0].args.noise_dir": "/noise", "arch.module": "mine", "arch.args.file": "a/b",
             "arch.args.nested": [{"c": "$HOME"}], "trainer.visualize": ["wandb", "p"],
             "trainer.external_storage": {"type": "DirectoryStorage", "args": {"path": "/share"}}},
            found,
        )  # fmt: skip

    def test_arguments_of_unknown_type_are_effects_when_they_look_like_paths(self) -> None:
        def untyped(optimizer, mode="linear"):  # type: ignore[no-untyped-def]
            pass

        for value, expected in (("/etc/passwd", ["lr_scheduler.args.mode"]), (["$HOME"], ["lr_scheduler.args.mode"]),
                                ("cosine", [])):  # fmt: skip
            raw = changed(lr_scheduler={"type": "CyclicLR", "args": {"mode": value}})
            with mock.patch.object(SCHEDULERS, "find", lambda spec: untyped):
                self.assertEqual(expected, [effect.path for effect in effects(raw)])

    def test_training_refuses_all_of_them_at_once_and_accepts_named_or_trusted_ones(self) -> None:
        storage = {"type": "DirectoryStorage", "args": {"path": str(self.folder)}}
        raw = changed(trainer={"epochs": 1, "monitor": "off", "external_storage": storage})
        raw["data"]["root_dir"] = str(self.folder)
        checkpoint = self.checkpoint(raw)
        with self.assertRaises(ConfigError) as caught:
            for_training(checkpoint, Named())
        self.assertEqual(2, len(caught.exception.faults))
        self.assertIn("--trust-config", caught.exception.faults[0])
        for named in (
            Named(trust=Trust(config=True)),
            Named(config=raw),
            Named(assignments=[f"data.root_dir={self.folder}", "trainer.external_storage=null"]),
        ):
            self.assertEqual(self.folder, for_training(checkpoint, named).config.root_dir)
        with self.assertRaises(ConfigError):  # a part of a storage that is named does not make the rest of it named
            for_training(checkpoint, Named(assignments=["data.root_dir=x", "trainer.external_storage.args.path=x"]))
        with self.assertRaises(ConfigError):
            for_training(checkpoint, Named(config={**raw, "trainer": {"epochs": 1}}))

    def test_data_of_a_received_config_is_not_read_unasked(self) -> None:
        raw = changed(data={"val": {"batch_size": 1, "datasets": [{"type": "CustomAudioDataset", "args": {
            "data": [{"path": str(AUDIO), "text": "a"}]}}]}})  # fmt: skip
        checkpoint = self.checkpoint(raw)
        code, output = self.run_test_py(checkpoint)
        self.assertEqual(2, code)
        self.assertIn("data.val.datasets[0].args.data", output)
        self.assertEqual(0, self.run_test_py(checkpoint, "--trust-config")[0])
        self.assertEqual(0, self.run_test_py(checkpoint, "-t", str(AUDIO))[0])
        overlay = self.folder / "overlay.json"
        overlay.write_text(json.dumps({"data": raw["data"]}))
        self.assertEqual(0, self.run_test_py(checkpoint, "-c", str(overlay))[0])

    def test_a_language_model_of_a_received_config_is_left_out(self) -> None:
        encoder = {"type": "LibrispeechKenLMCTCCharTextEncoder", "args": {"model": "/etc/passwd"}}
        decoders = [{"type": "argmax"}, {"type": "lm_beam_search", "args": {"language_model": "/etc/passwd"}}]
        without_path = [{"type": "lm_beam_search"}]
        for raw in (
            changed(text_encoder=encoder), changed(decoders=decoders),
            changed(text_encoder=encoder, decoders=without_path),
        ):  # fmt: skip
            checkpoint = self.checkpoint(raw)
            with self.assertLogs("hw_asr", "WARNING") as logs:
                config = for_evaluation(checkpoint, Named(), lambda name: False).config
            self.assertIn("/etc/passwd", logs.output[0])
            self.assertNotIn("lm_beam_search", [spec["type"] for spec in config.decoders or []])
            self.assertEqual("CTCCharTextEncoder", config.text_encoder["type"])
            self.assertEqual(0, self.run_test_py(checkpoint, "-t", str(AUDIO))[0])

    @unittest.skipUnless(importlib.util.find_spec("torchaudio"), "torchaudio is not installed")
    def test_where_initial_weights_came_from_does_not_matter_to_recognition(self) -> None:
        args = {"bundle": "WAV2VEC2_BASE", "weights_dir": "/weights", "base_url": "http://127.0.0.1:1/"}
        raw = changed(arch={"type": "Wav2Vec2", "args": args}, preprocessing={"spectrogram": {"type": "Waveform"}})
        self.assertEqual({"arch.args.weights_dir", "arch.args.base_url"}, {effect.path for effect in effects(raw)})
        with self.assertLogs("hw_asr", "WARNING"):
            config = for_evaluation(self.checkpoint(raw), Named(), lambda name: False).config
        self.assertEqual({"bundle": "WAV2VEC2_BASE"}, config.arch["args"])

    def test_no_server_named_by_a_received_config_is_contacted(self) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        server.settimeout(0.0)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for storage in (
            {"type": "FsspecStorage", "args": {"url": f"ftp://{address}/x", "options": {"password": "$HOME"}}},
            {
                "type": "GDriveStorage",
                "args": {"storage_folder_id": "x", "service_account_key_filepath": f"http://{address}/"},
            },
        ):
            with self.assertRaisesRegex(ConfigError, "external_storage"):
                for_training(self.checkpoint(changed(trainer={"epochs": 1, "external_storage": storage})), Named())
        with self.assertRaises(BlockingIOError):
            server.accept()

    def test_no_config_anywhere(self) -> None:
        checkpoint = self.checkpoint(CONFIG)
        (checkpoint.parent / "config.json").unlink()
        with self.assertRaisesRegex(ConfigError, "no such file, and the checkpoint contains no config"):
            for_training(checkpoint, Named())

    def test_an_embedded_config_that_is_not_json(self) -> None:
        checkpoint = self.checkpoint(changed(name=torch.zeros(1)), inside=True)
        with self.assertRaisesRegex(ConfigError, "is not JSON"):
            for_training(checkpoint, Named())

    def test_another_alphabet(self) -> None:
        checkpoint = self.checkpoint(CONFIG)
        for alphabet in (list("^ba"), 5, [1, None]):
            with self.assertRaisesRegex(ConfigError, "differs from the checkpoint's"):
                for_evaluation(checkpoint, Named(), lambda name: False, {"alphabet": alphabet})


if __name__ == "__main__":
    unittest.main()
