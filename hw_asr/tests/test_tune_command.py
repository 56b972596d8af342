"""The command lm-tune: settings from kept log-probabilities, test data refused, faults in one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from hw_asr.commands import dev_emissions
from hw_asr.commands.lm_tune import decoder_factory
from hw_asr.config import parse
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.errors import UserError
from hw_asr.lm.estimation.pipeline import NgramOptions, build_language_model
from hw_asr.lm.tuning.cached_emissions import CachedEmissions
from hw_asr.lm.tuning.search import Setting, evaluate, overlay
from hw_asr.tests.arpa_example import ArpaExample
from hw_asr.tests.missing_packages import missing
from hw_asr.tests.test_tuning import ALPHABET, WORDS, made_emissions
from hw_asr.tests.training_case import make_config
from hw_asr.tests.transcribe_case import CONFIG, TranscribeCase
from hw_asr.text.encoder import CTCCharTextEncoder
from scripts.language_model import tune as command

QUICK = ("--alphas", "0", "1", "1", "--betas", "0", "0", "1", "--refinements", "0", "--beams", "5")


class TestCommand(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.cache, self.lm = self.directory / "val.npz", self.directory / "lm.arpa"
        generator = np.random.default_rng(1)
        text = [" ".join(generator.choice(WORDS, 4)) for _ in range(300)]
        build_language_model(text, self.lm, "abcdefgh ", NgramOptions(2, discount_fallback=(0.5, 1.0, 1.5)))

    def run_command(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            status = command.main(["--lm", str(self.lm), "-o", str(self.directory / "best.json"), *arguments])
        return status, output.getvalue()

    def test_from_cached_log_probabilities(self) -> None:
        emissions = made_emissions()
        emissions.save(self.cache)
        status, output = self.run_command(
            "--log-probs", str(self.cache), "--alphas", "0", "1", "0.5", "--betas", "0", "2", "1", "--beams", "5", "20",
            "--refinements", "1", "--unknown", "-10",
        )  # fmt: skip
        self.assertEqual(0, status, output)
        self.assertIn("12 utterances of val, dev-clean", output)
        spec = json.loads((self.directory / "best.json").read_text())["decoders"][2]
        self.assertEqual("lm_beam_search", spec["type"])
        self.assertEqual(b"\x89PNG", (self.directory / "best.png").read_bytes()[:4])
        values = {name: value for name, value in spec["args"].items() if name != "language_model"}
        found = Setting(**values)
        make = decoder_factory(self.lm, ALPHABET)
        least = evaluate(emissions, make(found), found).wer
        for alpha in (0.0, 0.5, 1.0):
            for beta in (0.0, 1.0, 2.0):
                setting = Setting(alpha, beta, -10.0, 50)
                self.assertLessEqual(least, evaluate(emissions, make(setting), setting).wer + 0.0005)

    def test_test_data_is_refused(self) -> None:
        made = made_emissions(2)
        for origin in (("test",), ("val", "dev-clean", "test-other")):
            cached = CachedEmissions(made.log_probs, made.references, ALPHABET, origin)
            cached.save(self.cache)
            status, output = self.run_command("--log-probs", str(self.cache))
            self.assertEqual(1, status)
            self.assertRegex(output, "is test data .*--i-know")
        self.assertFalse((self.directory / "best.json").exists())
        self.assertEqual(0, self.run_command("--log-probs", str(self.cache), "--i-know", *QUICK)[0])

    def test_without_matplotlib_there_is_an_overlay_and_no_heat_map(self) -> None:
        made_emissions(2).save(self.cache)
        with missing("matplotlib", "matplotlib.backends.backend_agg", "matplotlib.figure"):
            status, output = self.run_command("--log-probs", str(self.cache), *QUICK)
        self.assertEqual(0, status, output)
        self.assertRegex(output, r"no heat map: .* pip install 'hw_asr\[plots\]'")
        self.assertTrue((self.directory / "best.json").is_file())
        self.assertFalse((self.directory / "best.png").exists())

    def test_a_file_of_other_data_is_refused(self) -> None:
        checkpoint, raw = self.directory / "model.pth", make_config(self.directory)
        checkpoint.write_bytes(b"x")
        options = argparse.Namespace(
            resume=checkpoint, config=None, split="val", log_probs=self.cache, i_know=False, allowed_modules=[],
            trust_config=False,
        )  # fmt: skip
        made = made_emissions(2)
        for data, refused in (("val.jsonl", False), ("other.jsonl", True)):
            raw["data"]["val"]["datasets"][0]["args"]["data"] = str(self.directory / "val.jsonl")
            identity = dev_emissions.identify(checkpoint, parse(raw), "val")
            CachedEmissions(made.log_probs, made.references, ALPHABET, ("val",), identity).save(self.cache)
            raw["data"]["val"]["datasets"][0]["args"]["data"] = str(self.directory / data)
            loaded = mock.Mock(config=parse(raw))
            with (
                mock.patch.multiple(dev_emissions, load_checkpoint=mock.DEFAULT, for_evaluation=mock.DEFAULT) as fakes,
                self.assertRaisesRegex(UserError, "of other data") if refused else contextlib.nullcontext(),
            ):
                fakes["for_evaluation"].return_value = loaded
                options.split = "val" if refused else None  # without --split, that of the file
                self.assertEqual(2, len(dev_emissions.load_or_compute(options, mock.Mock()).references))

    def test_faults_are_one_clear_line(self) -> None:
        made_emissions(2).save(self.cache)
        cache = ("--log-probs", str(self.cache))
        for arguments, message in (
            ((), "nothing to tune on"),
            ((*cache, "--alphas", "1", "0", "0.1"), "--alphas: expected FIRST <= LAST"),
            ((*cache, "--alphas", "-1", "0", "0.1"), "--alphas: expected values from 0 to 1000, got -1, 0"),
            ((*cache, "--betas", "2e6", "2e6", "1"), "--betas: expected values from -1000 to 1000, got 2e+06, 2e+06"),
            ((*cache, "--betas", "0", "nan", "1"), "--betas"),
            ((*cache, "--beams", "0"), "--beams"),
            ((*cache, "--beams", "10", "20000"), "--beams: expected widths from 1 to 10000, got 10, 20000"),
            ((*cache, "--search-beam", "20000"), "--search-beam: expected widths from 1 to 10000"),
            ((*cache, "--unknown", "nan"), "--unknown: expected values from -1000 to 1000, got nan"),
            ((*cache, "--unknown", "-10", "1e9"), "--unknown: expected values from -1000 to 1000, got -10, 1e+09"),
            ((*cache, "-r", str(self.lm), "--split", "train"), "--split: the network has learnt"),
            ((*cache, "--limit", "0"), "--limit: expected at least 1"),
            ((*cache, "-r", str(self.directory / "none.pth")), "none.pth: "),
            ((*cache, "-r", str(self.lm)), "another checkpoint"),
            ((*cache, "--lm", "none.arpa"), "no such file"),
        ):
            with self.subTest(arguments):
                status, output = self.run_command(*arguments)
                self.assertEqual(1, status)
                self.assertIn(message, output)
                self.assertEqual(1, output.count("\n"), output)

    def test_trials_search_like_the_overlay(self) -> None:
        setting = Setting(0.5, 1.0, -10.0, 5)
        (spec,) = [spec for spec in overlay(setting, self.lm)["decoders"] if spec["type"] == "lm_beam_search"]
        self.assertNotIn("n_best", spec["args"])
        default = LanguageModelBeamSearchDecoder(CTCCharTextEncoder("abcdefgh "), **spec["args"])
        self.assertEqual(decoder_factory(self.lm, ALPHABET)(setting).n_best, default.n_best)


class TestCheckpoint(TranscribeCase):
    def test_faults_are_found_before_the_network_runs(self) -> None:
        model, config = self.folder / "upper.arpa", self.folder / "dev.json"
        ArpaExample(["A", "B"], 2, 0).write(model)
        config.write_text(json.dumps({"data": {"val": CONFIG["data"]["train"]}}))
        good = ArpaExample(["a", "b"], 2, 0).write(self.folder / "lower.arpa")
        common = ["-r", str(self.checkpoint), "-c", str(config), "-o", str(self.folder / "best.json"), "-d", "cpu"]
        for arguments, message in (
            (["--lm", str(self.folder / "none.arpa")], "none.arpa"),
            (["--lm", str(model)], "its words are in the other case"),
            (["--lm", str(good), "--log-probs", str(self.folder)], "--log-probs: .* is a directory"),
            (["--lm", str(good), "--log-probs", str(config / "val.npz")], "--log-probs: cannot write"),
            (["--lm", str(good)], "the network runs"),
        ):
            output = io.StringIO()
            runs = mock.patch.object(dev_emissions, "compute", side_effect=UserError("the network runs"))
            with self.subTest(arguments), runs, redirect_stdout(output), redirect_stderr(output):
                self.assertEqual(1, command.main([*common, *arguments]))
            self.assertRegex(output.getvalue(), message)


if __name__ == "__main__":
    unittest.main()
