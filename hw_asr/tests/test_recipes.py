"""The shipped configs: all of them pass --check, without data too, and have the documented properties."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import train
from hw_asr.config import overlay
from hw_asr.experiment.validation import validate
from hw_asr.training.monitor import Monitor

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = "1+6/kaggle_deepspeech2_1+6_bidir_gru"
T4 = "1+6/t4"
FINETUNING = "1+6/kaggle_deepspeech2_1+6_other_finetuning"
OVERLAYS = {
    "demo_test": ["demo", "demo_streaming"],
    "eval_metrics_configs/test-clean": [PUBLISHED, FINETUNING, T4],
    "eval_metrics_configs/test-other": [PUBLISHED, FINETUNING, T4],
    "librispeech_test": [
        "librispeech_100",
        "librispeech_960",
        "librispeech_100_conformer",
        "librispeech_960_conformer",
        "mini_librispeech",
    ],
}


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    return config


def shipped() -> list[str]:
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.json"))


def experiments() -> list[str]:
    return [name for name in shipped() if name not in OVERLAYS]


def dataset_args(config: dict[str, Any], split: str) -> list[dict[str, Any]]:
    return [spec["args"] for spec in config["data"][split]["datasets"]]


def check(name: str, *options: str) -> tuple[int, str]:
    """Run `train.py -c CONFIG --check` in this process; return the exit code and what it printed."""
    printed = io.StringIO()
    command = ["train.py", "-c", str(CONFIGS / f"{name}.json"), "--check", "-d", "cpu", *options]
    with mock.patch("sys.argv", command), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = train.main()
    return code, printed.getvalue()


@contextlib.contextmanager
def empty_directory() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield Path(directory)
        finally:
            os.chdir(before)


class EveryConfigTest(unittest.TestCase):
    def test_what_is_an_overlay_is_known_here(self) -> None:
        self.assertEqual({name for name in shipped() if "name" not in read(name)}, set(OVERLAYS))

    def test_experiments_pass_the_check_where_there_is_no_data(self) -> None:
        for name in experiments():
            if read(name)["arch"]["type"] == "Wav2Vec2" and importlib.util.find_spec("torchaudio") is None:
                continue
            with self.subTest(name), empty_directory() as directory:
                code, printed = check(name, "--set", "trainer.external_storage=null")
                if code == 0:
                    self.assertRegex(printed, r"would be downloaded from https://\S+ to data/\S+, about")
                else:
                    first, *faults = printed.strip().splitlines()
                    self.assertRegex(first, rf"^error: \S+{name}.json: \d faults$")
                    for fault in faults:
                        self.assertRegex(fault, r"^  data\.\w+: \S+jsonl: cannot read the manifest: No such file")
                self.assertEqual(list(directory.iterdir()), [], "a check leaves nothing behind")

    def test_the_demos_find_their_corpus(self) -> None:
        before = Path.cwd()
        os.chdir(CONFIGS.parents[1])
        try:
            checks = {name: check(name) for name in ("demo", "demo_streaming")}
        finally:
            os.chdir(before)
        for code, printed in checks.values():
            self.assertEqual(code, 0)
            self.assertNotIn("missing", printed)
        # Hops of 10 ms: 7 * 4 of the look-ahead layer, 2 * 2 and 5 of the convolutions; and half a window of 25 ms.
        self.assertIn("live        yes, with a look-ahead of 0.383 s", checks["demo_streaming"][1])
        self.assertNotIn("live", checks["demo"][1])

    def test_overlays_fit_the_configs_they_are_for(self) -> None:
        for name, bases in OVERLAYS.items():
            for base in bases:
                with self.subTest(overlay=name, base=base), empty_directory() as directory:
                    (directory / "saved/demo").mkdir(parents=True)
                    (directory / "saved/demo/lm.arpa").touch()
                    merged = overlay(read(base), read(name))
                    config = validate(merged, name, training=False)
                    self.assertNotIn("train", config.data)
                    self.assertEqual(alphabet(merged), alphabet(read(base)))

    def test_schedules_end_with_the_training(self) -> None:
        for name in experiments():
            config = read(name)
            trainer, schedule = config["trainer"], config.get("lr_scheduler") or {"type": "none"}
            if "total_steps" in schedule.get("args", {}):  # otherwise it is the length of the run
                steps = math.ceil(trainer["len_epoch"] / trainer.get("accumulate_grad_steps", 1))
                self.assertEqual(schedule["args"]["total_steps"], steps * trainer["epochs"], name)

    def test_nothing_is_selected_on_test_data(self) -> None:
        for name in experiments():
            config = read(name)
            monitor = Monitor.parse(config["trainer"]["monitor"])
            for split in set(config["data"]) - {"root_dir", "train"}:
                if monitor is not None and monitor.key.startswith(f"{split}_"):
                    args = dataset_args(config, split)
                    names = [split, *(str(each.get("part", "")) + str(each.get("split", "")) for each in args)]
                    self.assertFalse([each for each in names if "test" in each], name)


def alphabet(config: dict[str, Any]) -> str:
    return str(config.get("text_encoder", {}).get("args", {}).get("alphabet", "abcdefghijklmnopqrstuvwxyz "))


class PublishedRecipesTest(unittest.TestCase):
    """What the published experiments were: facts, written down apart from the files."""

    def test_the_recipe_for_a_t4_differs_in_batches_precision_and_where_it_logs(self) -> None:
        published, own = read(PUBLISHED), read(T4)
        for config in (published, own):
            for key in ("name", "batch_size", "batch_sampler"):
                config.pop(key, None)
                for split in ("train", "val"):
                    config["data"][split].pop(key, None)
            for key in ("precision", "visualize", "wandb_project", "external_storage"):
                config["trainer"].pop(key, None)
        self.assertEqual(own, published)
        self.assertEqual(read(T4)["trainer"]["precision"], "fp16")
        sampler = {"type": "GroupLengthBatchSampler", "args": {"batch_size": 20}}
        self.assertEqual(read(T4)["data"]["train"]["batch_sampler"], sampler)

    def test_recipes_for_one_gpu_run_on_a_t4(self) -> None:
        for name in (T4, "librispeech_100"):  # bf16 needs Ampere
            self.assertEqual(read(name)["trainer"]["precision"], "fp16", name)

    def test_first_training(self) -> None:
        config = read(PUBLISHED)
        self.assertEqual(config["preprocessing"]["sr"], 16000)
        self.assertEqual(config["preprocessing"]["spectrogram"], {"type": "MelSpectrogram", "args": {}})
        self.assertTrue(config["preprocessing"]["log_spec"])
        drawn = config["augmentations"]
        self.assertEqual(
            [(each["type"], each["args"]["p"]) for each in drawn["wave"]], [("Gain", 0.3), ("PitchShift", 0.3)]
        )
        masks = [(each["type"], *each["args"].values()) for each in drawn["spectrogram"]]
        self.assertEqual(masks, [("FrequencyMasking", 0.3, 24), ("TimeMasking", 0.3, 50)])
        expected = {"part": "train-clean-100", "max_audio_length": 30.0, "max_text_length": 250}
        self.assertEqual(dataset_args(config, "train"), [expected])
        self.assertEqual(dataset_args(config, "val"), [{"part": "dev-clean"}])
        self.assertEqual(config["data"]["train"]["batch_size"], 20)
        self.assertEqual(config["optimizer"], {"type": "Adam", "args": {"lr": 6e-4}})
        self.assertEqual(config["lr_scheduler"], {"type": "StepLR", "args": {"step_size": 1000, "gamma": 0.8}})
        expected = {"epochs": 200, "len_epoch": 400, "early_stop": 100, "grad_norm_clip": 400}
        self.assertEqual(expected, {key: config["trainer"][key] for key in expected})
        self.assertEqual(config["trainer"]["monitor"], "min val_loss")
        self.assertEqual((config["trainer"]["visualize"], config["trainer"]["wandb_project"]), ("wandb", "asr_project"))
        storage = config["trainer"]["external_storage"]
        self.assertEqual(storage["type"], "GDriveStorage")
        self.assertEqual(storage["args"]["storage_folder_id"], "1XmURU5KBdxDcP_zFHbe06FSThHYqVy_S")

    def test_conformer_with_intermediate_ctc_as_espnet_publishes_it(self) -> None:
        """egs2/librispeech_100/asr1/conf/tuning/train_conformer_interctc.yaml; 300 BPE units there, characters here."""
        config = read("librispeech_100_conformer")
        sizes = {"dim": 256, "num_heads": 4, "ffn_dim": 1024, "num_layers": 18, "kernel_size": 31, "dropout": 0.1}
        self.assertEqual(config["arch"], {"type": "Conformer", "args": {**sizes, "intermediate_layers": [6, 12]}})
        self.assertEqual(config["loss"]["args"], {"intermediate_weight": 0.66})
        self.assertEqual(config["optimizer"], {"type": "Adam", "args": {"lr": 0.002, "weight_decay": 1e-6}})
        batch = config["data"]["train"]["batch_sampler"]["args"]["max_seconds"]
        self.assertEqual(batch * 100 * 80, 2_000_000, "batch_bins: frames times features")
        self.assertEqual(config["trainer"]["accumulate_grad_steps"], 16)
        self.assertEqual(config["trainer"]["epochs"], 60 * 3, "an epoch there has every utterance at three speeds")
        self.assertEqual(config["trainer"]["keep_last"], 10)
        self.assertEqual(config["augmentations"]["wave"][0]["args"]["factors"], [0.9, 1.0, 1.1])
        self.assert_masks_of_conformers(config)

    def test_conformer_as_nemo_publishes_it(self) -> None:
        """examples/asr/conf/conformer/conformer_ctc_bpe.yaml, medium; NoamAnnealing's peak as the rate."""
        config = read("librispeech_960_conformer")
        sizes = {"dim": 256, "num_heads": 4, "ffn_dim": 4 * 256, "num_layers": 18, "kernel_size": 31, "dropout": 0.1}
        self.assertEqual(config["arch"], {"type": "Conformer", "args": sizes})
        peak = 5.0 * 256**-0.5 * 10_000**-0.5
        optimizer = {"lr": peak, "betas": [0.9, 0.98], "weight_decay": 1e-3}
        self.assertEqual(config["optimizer"], {"type": "AdamW", "args": optimizer})
        schedule = config["lr_scheduler"]["args"]
        self.assertEqual(schedule["max_lr"], peak)
        self.assertEqual(dataset_args(config, "train")[0]["max_audio_length"], 16.7)
        seconds = config["data"]["train"]["batch_sampler"]["args"]["max_seconds"]
        seconds *= config["trainer"]["accumulate_grad_steps"]
        corpus, utterances = 961 * 3600, 281_241
        self.assertAlmostEqual(seconds / (corpus / utterances), 2048, delta=50, msg="utterances of a step")
        steps = config["trainer"]["epochs"] * corpus / seconds
        self.assertAlmostEqual(schedule["pct_start"] * steps, 10_000, delta=500, msg="warm-up")
        self.assert_masks_of_conformers(config)

    def assert_masks_of_conformers(self, config: dict[str, Any]) -> None:
        masks = config["augmentations"]["spectrogram"][0]["args"]
        self.assertEqual((masks["num_freq_masks"], masks["freq_mask_param"]), (2, 27))
        self.assertEqual((masks["num_time_masks"], masks["time_mask_ratio"]), (5, 0.05))
        longest = max(args["max_audio_length"] for args in dataset_args(config, "train"))
        self.assertGreaterEqual(masks["time_mask_param"], 0.05 * 100 * longest, "only the ratio limits a mask")

    def test_fine_tuning(self) -> None:
        config = read(FINETUNING)
        self.assertEqual(config["arch"], read(PUBLISHED)["arch"])
        parts = [(each["part"], each["max_audio_length"]) for each in dataset_args(config, "train")]
        self.assertEqual(parts, [("train-clean-100", 16.0), ("train-other-500", 16.0)])
        validation = [each["part"] for split in ("val_clean", "val_other") for each in dataset_args(config, split)]
        self.assertEqual(validation, ["dev-clean", "dev-other"])
        self.assertEqual(config["augmentations"], {"wave": [], "spectrogram": []})
        self.assertEqual(config["optimizer"]["type"], "Adam")
        expected = {"max_lr": 1e-4, "total_steps": 20_000, "pct_start": 0.2}
        self.assertEqual(config["lr_scheduler"], {"type": "OneCycleLR", "args": expected})
        self.assertEqual(config["trainer"]["len_epoch"], 800)

    def test_the_model_has_its_size(self) -> None:
        with empty_directory():
            _, printed = check(PUBLISHED, "--set", "trainer.external_storage=null")
        convolution = 16 * (41 * 11 + 1)
        recurrent = sum(2 * 3 * 512 * (size + 512 + 2) for size in [16 * 128, *[2 * 512] * 5])
        normalisations = 2 * 16 + 6 * 2 * 1024
        expected = convolution + recurrent + normalisations + (1024 + 1) * 28
        self.assertIn(f"{expected:,} parameters", printed)
        self.assertIn("80 frames/s", printed)
        self.assertIn("28 classes", printed)

    def test_evaluation(self) -> None:
        for part in ("test-clean", "test-other"):
            config = read(f"eval_metrics_configs/{part}")
            encoder = config["text_encoder"]
            self.assertEqual(encoder["type"], "LibrispeechKenLMCTCCharTextEncoder")
            self.assertEqual(encoder["args"]["model"], "lowercase_3-gram.pruned.1e-7.arpa")
            self.assertEqual((encoder["args"]["alpha"], encoder["args"]["beta"]), (0.8, 2.0))
            split = config["data"][part.replace("-", "_")]
            self.assertEqual((split["batch_size"], split["datasets"][0]["args"]), (20, {"part": part}))

    def test_without_credentials_training_says_what_to_do_before_any_download(self) -> None:
        printed = io.StringIO()
        command = [
            "train.py",
            "-c",
            str(CONFIGS / f"{PUBLISHED}.json"),
            "-d",
            "cpu",
            "--set",
            'trainer.visualize="none"',
        ]
        with empty_directory() as directory, mock.patch("sys.argv", command), contextlib.redirect_stderr(printed):
            self.assertEqual(train.main(), 1)
            self.assertFalse((directory / "data").exists())
        self.assertIn("set trainer.external_storage to null", printed.getvalue())


if __name__ == "__main__":
    unittest.main()
