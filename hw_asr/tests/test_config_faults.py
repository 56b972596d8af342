"""Parts of a config that are sound by themselves and cannot be used, or not together."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path

import torch

from hw_asr.config import ConfigError, parse
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.validation import examine
from hw_asr.tests.test_config import changed
from hw_asr.training.progress_lines import Position, step_line


class FaultCase(unittest.TestCase):
    def assert_faults(self, expected: list[str], *assignments: str) -> None:
        self.assertEqual(examine(changed(*assignments)).faults, expected)


class NamesTest(FaultCase):
    def test_metrics_that_would_overwrite_each_other(self) -> None:
        beams = [{"type": "BeamSearchWERMetric", "args": {"decoder": name}} for name in ("beam_search", "argmax")]
        own = {"type": "ArgmaxWERMetric", "args": {"name": "loss"}}
        pooled = [{"type": "ArgmaxWERMetric", "args": {"name": name}} for name in ("x", "x corpus")]
        for metrics, names in (
            (beams, ["WER (beam search)", "WER (beam search) corpus"]),
            ([own], ["loss"]),
            (pooled, ["x corpus"]),
        ):
            faults = [f"metrics: two are named {name!r}; set args.name" for name in names]
            self.assert_faults(faults, f"metrics={json.dumps(metrics)}", "trainer.monitor=min val_loss")

    def test_decoders_of_one_type(self) -> None:
        decoders = [{"type": "argmax"}, *({"type": "beam_search", "args": {"beam_size": size}} for size in (5, 50))]
        self.assert_faults(
            ["decoders: two have the type 'beam_search'; remove one"], f"decoders={json.dumps(decoders)}"
        )


class DecodersTest(FaultCase):
    ENCODER = ("text_encoder.type=LibrispeechKenLMCTCCharTextEncoder", 'text_encoder.args={"beam_width": 1000000}')

    def test_widths_of_decoders_that_the_config_does_not_list(self) -> None:
        self.assert_faults(["trainer.beam_size: expected at most 10000, got 100000"], "trainer.beam_size=100000")
        metrics = [{"type": "BeamSearchWERMetric", "args": {"decoder": "lm_beam_search"}}]
        self.assert_faults(
            ["text_encoder.args: beam_size: expected a number between 1 and 10000, got 1000000"],
            *self.ENCODER, f"metrics={json.dumps(metrics)}", "trainer.monitor=min val_loss",
        )  # fmt: skip
        self.assert_faults([], *self.ENCODER)  # training does not use it


class HugeNumbersTest(FaultCase):
    def test_lengths_of_a_run(self) -> None:
        for key in ("epochs", "len_epoch", "keep_last", "accumulate_grad_steps"):
            fault = f"trainer.{key}: expected at most 9007199254740992, got {10**30}"
            self.assert_faults([fault], f"trainer.{key}={10**30}")
        line = step_line(Position(1, 2**53, 0.0, 2.0**106), 1, defaultdict(float))
        self.assertRegex(line, r"left \d+ days")

    def test_what_would_take_all_memory_or_all_time(self) -> None:
        masks = [{"type": "SpecAugment", "args": {"num_time_masks": 10**7}}]
        self.assert_faults(
            ["augmentations.spectrogram[0].args: num_time_masks: expected 0 to 1000, got 10000000"],
            f"augmentations.spectrogram={json.dumps(masks)}",
        )
        masks = [{"type": "TimeMasking", "args": {"time_mask_param": 10**30}}]
        self.assert_faults(
            [f"augmentations.spectrogram[0].args: time_mask_param: expected 0 to 2147483647, got {10**30}"],
            f"augmentations.spectrogram={json.dumps(masks)}",
        )
        self.assert_faults(
            ["arch.args: lookahead_config.future_time: expected 1 to 10000, got 10000000"],
            "arch.args.gru_config.bidirectional=false", "arch.args.lookahead_config.future_time=10000000",
        )  # fmt: skip


class ModulesTest(FaultCase):
    def test_whatever_a_module_raises_is_a_fault_among_others(self) -> None:
        for code, reason in (
            ("raise ValueError('no\\nsuch')", "ValueError: no such"),
            ("open('/nonexistent/table')", "FileNotFoundError: .*/nonexistent/table'"),
            ("import sys; sys.exit(2)", "SystemExit: 2"),
            ("1 / 0", "ZeroDivisionError: division by zero"),
        ):
            with self.subTest(code):
                module = self.module(code)
                assignments = (f"arch.module={module}", "trainer.epochs=0")
                first, second = examine(changed(*assignments)).faults
                self.assertRegex(first, f"^arch.module: importing '{module}' failed: {reason}$")
                self.assertIn("trainer.epochs", second)

    def test_a_constructor_that_reads_a_file(self) -> None:
        module = self.module("def Table():\n    open('/nonexistent/table')\n")
        metrics = json.dumps([{"type": "Table", "module": module}])
        first, second = examine(changed(f"metrics={metrics}", "trainer.epochs=0")).faults
        self.assertIn("trainer.epochs", first)
        self.assertRegex(second, r"metrics\[0\].args: .*No such file.*/nonexistent/table")

    def module(self, code: str) -> str:
        """Write a module and return its name."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        sys.path.insert(0, folder.name)
        self.addCleanup(sys.path.remove, folder.name)
        name = f"planted_{Path(folder.name).name}"
        (Path(folder.name) / f"{name}.py").write_text(code)
        return name


class MonitorTest(FaultCase):
    def test_nothing_to_stop_by(self) -> None:
        fault = "trainer.early_stop: needs trainer.monitor, which is off; remove one of them"
        self.assert_faults([fault], "trainer.monitor=off", "trainer.early_stop=3")


class OptimizerTest(FaultCase):
    def test_numbers_that_are_not_finite(self) -> None:
        for name in ("lr", "weight_decay", "eps"):
            fault = f"optimizer.args.{name}: expected a finite number, got inf"
            self.assert_faults([fault], f"optimizer.args.{name}=Infinity")

    def test_gradients_of_a_step(self) -> None:
        (fault,) = examine(changed("optimizer.args.differentiable=true", "optimizer.args.fused=true")).faults
        self.assertIn("optimizer.args.differentiable: ", fault)

    def test_a_form_that_only_a_gpu_has(self) -> None:
        model = torch.nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
        build_optimizer(parse(changed("optimizer.args.capturable=true")), model).step()  # the fused one has it
        for kind in ("Adamax", "NAdam", "Rprop"):
            config = parse(changed(f"optimizer.type={kind}", "optimizer.args.capturable=true"))
            self.assertEqual(examine(config.raw).faults, [])  # may be for a GPU
            self.assertEqual(examine({**config.raw, "arch": {"type": "x"}}).faults[1:], [])
            with self.assertRaisesRegex(ConfigError, "optimizer.args.capturable: needs a GPU"):
                build_optimizer(config, model)


if __name__ == "__main__":
    unittest.main()
