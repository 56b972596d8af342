"""What `train.py --check` finds beyond the config itself: data that are not here, language models."""

from __future__ import annotations

import json
from pathlib import Path

from hw_asr.tests.training_case import TrainingCase

ONE_CYCLE = '{"type": "OneCycleLR", "args": {"max_lr": 0.02, "total_steps": %s}}'


class DataElsewhereTest(TrainingCase):
    def options(self, place: Path) -> list[str]:
        datasets = [{"type": "LibrispeechDataset", "args": {"part": "train-clean-100"}}]
        return [
            "-c", "config.json", "--check", "--set", f"data.train.datasets={json.dumps(datasets)}",
            "--set", f"data.root_dir={place / 'data'}",
        ]  # fmt: skip

    def test_the_schedule_of_a_known_length(self) -> None:
        place = self.place(self.config(epochs=2))  # 5 steps per epoch
        options = self.options(place)
        self.assertIn("2 epochs of 5 steps", self.train(place, *options))
        output = self.train(place, *options, "--set", f"lr_scheduler={ONE_CYCLE % 9}", code=2)
        self.assertIn("lr_scheduler.args.total_steps: 9, but the run takes 10 steps", output)
        self.train(place, *options, "--set", "lr_scheduler.args.total_steps=9", "--set", "trainer.len_epoch=null")

    def test_a_form_of_the_optimizer_that_a_cpu_lacks(self) -> None:
        place = self.place(self.config(len_epoch=None))
        adamax = 'optimizer={"type": "Adamax", "args": {"capturable": true}}'
        output = self.train(place, *self.options(place), "--set", adamax, code=2)
        self.assertIn("optimizer.args.capturable: needs a GPU", output)


class LanguageModelTest(TrainingCase):
    def test_what_cannot_be_read(self) -> None:
        config = self.config()
        config["metrics"].append({"type": "BeamSearchWERMetric", "args": {"decoder": "lm_beam_search"}})
        config["text_encoder"]["args"]["alphabet"] += " "
        place = self.place(config)
        (place / "model.arpa").write_text("no model\n")
        encoder = {**config["text_encoder"], "type": "LibrispeechKenLMCTCCharTextEncoder"}
        for model, message in (
            ("/nonexistent.arpa", "text_encoder: language model '/nonexistent.arpa': no such file"),
            ("model.arpa", r"text_encoder: model.arpa: neither ARPA"),
            ("lowercase_3-gram.arpa", ""),  # would be downloaded
        ):
            encoder["args"] = {**encoder["args"], "model": model}
            with self.subTest(model):
                options = ("-c", "config.json", "--check", "--set", f"text_encoder={json.dumps(encoder)}")
                output = self.train(place, *options, code=2 if message else 0)
                self.assertIn(message, output)
        decoders = [{"type": "argmax"}, {"type": "lm_beam_search", "args": {"language_model": "model.arpa"}}]
        output = self.train(place, "-c", "config.json", "--check", "--set", f"decoders={json.dumps(decoders)}", code=2)
        self.assertIn("decoders: model.arpa: neither ARPA", output)
