"""Configs: every fault is explained at once before anything is made."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.config import ConfigError, override, parse
from hw_asr.experiment.components import build_corpora
from hw_asr.experiment.validation import validate
from hw_asr.lm.librispeech import LibrispeechKenLMCTCCharTextEncoder

ROOT = Path(__file__).resolve().parents[2]
GOOD: dict[str, Any] = {
    "name": "example",
    "preprocessing": {"sr": 16000, "spectrogram": {"type": "MelSpectrogram", "args": {"n_mels": 40}}},
    "arch": {
        "type": "DeepSpeech2",
        "args": {
            "n_feats": 40,
            "cnn_config": {"output_channels": [4], "filters": [[11, 11]], "stride": [[2, 2]]},
            "gru_config": {"hidden_dims": [8, 8], "bidirectional": True},
        },
    },
    "data": {
        "train": {"batch_size": 4, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "train.jsonl"}}]},
        "val": {"batch_size": 4, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "val.jsonl"}}]},
    },
    "optimizer": {"type": "Adam", "args": {"lr": 0.001}},
    "lr_scheduler": {"type": "StepLR", "args": {"step_size": 10}},
    "metrics": [{"type": "ArgmaxWERMetric", "args": {"name": "WER (argmax)"}}],
    "trainer": {"epochs": 1, "monitor": "min val_WER (argmax)"},
}


def changed(*assignments: str) -> dict[str, Any]:
    return override(GOOD, assignments)


class ValidationTest(unittest.TestCase):
    def faults(self, raw: dict[str, Any], **options: Any) -> list[str]:
        try:
            validate(raw, **options)
        except ConfigError as error:
            return error.faults
        return []

    def assert_fault(self, pattern: str, *assignments: str) -> None:
        faults = self.faults(changed(*assignments))
        self.assertEqual(1, len(faults), faults)
        self.assertRegex(faults[0], pattern)

    def test_a_good_config_and_its_defaults(self) -> None:
        self.assertEqual([], self.faults(GOOD))
        config = parse(GOOD)
        self.assertEqual("CTCCharTextEncoder", config.text_encoder["type"])
        self.assertEqual(Path("saved"), config.trainer.save_dir)

    def test_the_home_directory_in_paths(self) -> None:
        with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"HOME": home, "USERPROFILE": home}):
            (Path(home) / "lm.arpa").touch()
            decoders = [{"type": "argmax"}, {"type": "lm_beam_search", "args": {"language_model": "~/lm.arpa"}}]
            raw = changed("trainer.save_dir=~/runs", "data.root_dir=~/data", f"decoders={json.dumps(decoders)}",
                          "data.train.datasets.0.args.data=~/train.jsonl")  # fmt: skip
            config = validate(raw)
            self.assertEqual((Path(home, "runs"), Path(home, "data")), (config.trainer.save_dir, config.root_dir))
            self.assertEqual(str(Path(home, "train.jsonl")), build_corpora(config, "train")[0].name)
            self.assertEqual("~/runs", config.raw["trainer"]["save_dir"])
            encoder = LibrispeechKenLMCTCCharTextEncoder("~/lm.arpa")
            self.assertEqual(Path(home, "lm.arpa"), encoder.language_model_path())
        unknown = validate(changed("trainer.save_dir=~no-such-user/runs"))
        self.assertEqual(Path("~no-such-user/runs"), unknown.trainer.save_dir)

    def test_all_faults_at_once(self) -> None:
        raw = changed(
            "arch.type=DeepSpech2", "optimizer.args.lrr=1", "trainer.epochs=three", "trainer.epoch=1", "dta={}",
            "preprocessing.spectrogram.args.n_fft=big", "data.train.datasets.0.args.limt=1", "lr_scheduler.type=StepLr",
        )  # fmt: skip
        text = "\n".join(self.faults(raw))
        for expected in (
            "arch.type: unknown arch 'DeepSpech2'; did you mean 'DeepSpeech2'? known: BaselineModel, ",
            "optimizer.args.lrr: unknown key; did you mean 'lr'?",
            "trainer.epochs: expected an integer, got 'three'",
            "trainer.epoch: unknown key; did you mean 'epochs'?",
            "dta: unknown key; did you mean 'data'?",
            "preprocessing.spectrogram.args.n_fft: expected an integer, got 'big'",
            "data.train.datasets[0].args.limt: unknown key; did you mean 'limit'?",
            "lr_scheduler.type: unknown lr scheduler 'StepLr'; did you mean 'StepLR'?",
        ):
            self.assertIn(expected, text)

    def test_missing_sections_and_arguments(self) -> None:
        raw = copy.deepcopy(GOOD)
        del raw["optimizer"], raw["arch"]["args"]["gru_config"], raw["trainer"]["epochs"]
        text = "\n".join(self.faults(raw))
        for expected in (
            "optimizer: missing",
            "arch.args.gru_config: missing",
            "trainer.epochs: missing; expected an int",
        ):
            self.assertIn(expected, text)

    def test_parts_that_do_not_fit(self) -> None:
        self.assert_fault(r"arch.args.n_feats: 64, but preprocessing.spectrogram gives 40", "arch.args.n_feats=64")
        self.assert_fault(r"arch.args.n_class: 30, but text_encoder has 28", "arch.args.n_class=30")
        sampler = {"type": "GroupLengthBatchSampler", "args": {"batch_size": 4}}
        both = f"data.val.batch_sampler={json.dumps(sampler)}"
        bad = {"batch_sampler": {"type": "GroupLengthBatchSampler", "args": {"batch_size": 0}}}
        bad["datasets"] = GOOD["data"]["train"]["datasets"]
        self.assert_fault(
            r"data.train.batch_sampler.args: batch_size: expected a positive", f"data.train={json.dumps(bad)}"
        )
        self.assert_fault(r"data.val: batch_size and batch_sampler exclude each other", both)
        self.assert_fault(
            r"trainer.monitor: 'val_los' is not a metric this config produces.*did you mean 'val_loss'",
            "trainer.monitor=min val_los",
        )
        self.assert_fault(r"trainer.monitor: 'dev_loss' is not a metric this config", "trainer.monitor=min dev_loss")
        self.assert_fault(r"trainer.monitor: expected 'min SPLIT_METRIC'", "trainer.monitor=val_loss")
        metric = {"type": "BeamSearchWERMetric", "args": {"name": "WER (argmax)", "decoder": "beam"}}
        self.assert_fault(r"metrics: .*decoder 'beam', not in `decoders`", f"metrics.0={json.dumps(metric)}")

    def test_values_a_constructor_refuses(self) -> None:
        self.assert_fault(
            r"arch.args: cnn_config.filters: expected odd sizes", "arch.args.cnn_config.filters=[[10, 11]]"
        )
        self.assert_fault(r"optimizer.args: .*-1", "optimizer.args.lr=-1")
        self.assert_fault(r"text_encoder.args: alphabet: duplicate character 'a'",
                          "text_encoder.type=CTCCharTextEncoder", "text_encoder.args.alphabet=aba")  # fmt: skip
        self.assert_fault(r"data.train.batch_size: expected a positive integer, got 0", "data.train.batch_size=0")
        self.assert_fault(r"preprocessing: .*contains no short-time Fourier transform",
                          "preprocessing.spectrogram.type=Identity", "preprocessing.spectrogram.module=torch.nn",
                          "preprocessing.spectrogram.args={}", "arch.args.n_feats=40")  # fmt: skip

    def test_values_that_are_impossible_everywhere(self) -> None:
        self.assert_fault("optimizer.args.lr: expected a number, got nan", "optimizer.args.lr=NaN")
        self.assert_fault(r"optimizer.args.lr: expected a number, got 1e\+300", "optimizer.args.lr=1e300")
        self.assert_fault(r"trainer.grad_norm_clip: expected .*, got 1e\+300", "trainer.grad_norm_clip=1e300")
        self.assert_fault("trainer.save_dir: expected a path", 'trainer.save_dir="a\\u0000b"')

    def test_arguments_of_decoders(self) -> None:
        for kind, args, fault in (
            ("beam_search", {"beam_size": 0}, "beam_size: expected a number between 1 and 10000, got 0"),
            ("beam_search", {"hotwords": ["2024"]}, "hotwords: '2024' has no character of the alphabet"),
            ("lm_beam_search", {"language_model": __file__, "alpha": -1}, "alpha: expected a number between 0 and"),
            ("pyctcdecode", {"n_best": 0}, "n_best: expected a number between 1 and 10000"),
        ):
            specs = [{"type": "argmax"}, {"type": kind, "args": args}]
            self.assert_fault(rf"decoders\[1\].args: {fault}", "decoders=" + json.dumps(specs))

    def test_one_fault_hides_no_other(self) -> None:
        raw = changed(
            "trainer.epochs=three", "optimizer.args.lr=0,002", "arch.args.gru_config.hidden_dims=[]",
            "lr_scheduler.args.step_size=0", "data.train.batch_size=0", "preprocessing.spectrogram.args.n_mels=0",
            'data.val.datasets.0.args.limit=-1', 'text_encoder={"type":"CTCCharTextEncoder","args":{"alphabet":"aa"}}',
            'augmentations={"wave":[{"type":"Gain","args":{"p":2}}]}', "trainer.monitor=min val_los",
        )  # fmt: skip
        faults = self.faults(raw)
        for path in (
            "trainer.epochs: expected an integer", "optimizer.args.lr: expected a number, got '0,002'",
            "lr_scheduler.args.step_size: ", "data.train.batch_size: ", "data.val.datasets[0].args: limit",
            "augmentations.wave[0].args: ",
            "text_encoder.args: ", "preprocessing: ", "trainer.monitor: 'val_los'",
        ):  # fmt: skip
            self.assertEqual(sum(fault.startswith(path) for fault in faults), 1, (path, faults))
        self.assertNotIn("'<='", "".join(faults))

    def test_missing_files(self) -> None:
        self.assert_fault(r"decoders\[1\].args.language_model: no/such.arpa: no such file", "decoders=" + json.dumps(
            [{"type": "argmax"}, {"type": "lm_beam_search", "args": {"language_model": "no/such.arpa"}}]))  # fmt: skip

    def test_secrets_anywhere_are_faults_and_are_not_quoted(self) -> None:
        faults = self.faults(changed("trainer.wandb_project=https://me:planted@host/x"))
        self.assertEqual(1, len(faults))
        self.assertRegex(faults[0], r"^trainer.wandb_project: contains a password in an address; .*\$NAME")
        self.assertNotIn("planted", faults[0])

    def test_numbers_that_no_machine_has(self) -> None:
        self.assert_fault(r"trainer.seed: expected 0 to 2\*\*63 - 1, got 1000", "trainer.seed=1000000000000000000000")
        self.assert_fault(r"trainer.seed: expected 0 to", "trainer.seed=-1")
        self.assert_fault(r"data.train.num_workers: expected 0 to 1024, got 5000", "data.train.num_workers=5000")
        alphabet = [chr(number) for number in range(0x100, 0xD000)]
        spec = {"type": "CTCCharTextEncoder", "args": {"alphabet": alphabet}}
        self.assertEqual([], self.faults(changed(f"text_encoder={json.dumps(spec)}")))

    def test_storages_that_their_constructors_refuse(self) -> None:
        for args, words in (
            (
                {"url": "s3://x/y", "options": {"headers": {"Authorization": "planted"}}},
                "options.headers.Authorization: look",
            ),
            ({"url": "no-protocol"}, "url: expected PROTOCOL://PLACE"),
        ):
            spec = {"type": "FsspecStorage", "args": args}
            faults = self.faults(changed(f"trainer.external_storage={json.dumps(spec)}"))
            self.assertEqual(1, len(faults), faults)
            self.assertIn(f"trainer.external_storage.args: {words}", faults[0])
            self.assertNotIn("planted", faults[0])

    def test_modules(self) -> None:
        self.assert_fault(r"arch.module: cannot import 'no_such_module'", "arch.module=no_such_module")
        self.assert_fault(r"arch.type: module 'math' has no class or function 'DeepSpeech2'", "arch.module=math")
        self.assert_fault(r"arch.type: module 'math' has no class or function 'pi'", "arch.module=math", "arch.type=pi")
        for name in ("5", "math.", ".math"):
            self.assert_fault(r"arch.module: expected the name of a Python module, got ", f"arch.module={name}")

    def test_splits_that_are_not_objects_under_any_name(self) -> None:
        for name in ("other", "a.b", "a[0]", "a: b", "x" * 5000):
            raw = copy.deepcopy(GOOD)
            raw["data"][name] = 1
            self.assertTrue(any(fault.startswith(f"data.{name}"[:100]) for fault in self.faults(raw)), name[:10])

    def test_training_needs_a_train_split_and_inference_does_not(self) -> None:
        raw = copy.deepcopy(GOOD)
        del raw["data"]["train"]
        self.assertTrue(any(fault.startswith("data.train: missing") for fault in self.faults(raw)))
        self.assertEqual([], self.faults(raw, training=False))

    def test_no_fault_of_any_single_type_error_is_a_crash(self) -> None:
        """Put a wrong value in the place of every value of the config, one at a time."""

        def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            return [path, *(place for key, each in items for place in places(each, (*path, key)))]

        for place in places(GOOD)[1:]:
            for wrong in (None, -3, "wrong", [], {}, [{}], True):
                raw = copy.deepcopy(GOOD)
                node: Any = raw
                for key in place[:-1]:
                    node = node[key]
                node[place[-1]] = wrong
                with self.subTest(place=place, wrong=wrong):
                    for fault in self.faults(raw):
                        self.assertNotIn("\n", fault)


if __name__ == "__main__":
    unittest.main()
