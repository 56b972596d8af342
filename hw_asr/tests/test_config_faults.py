"""Parts of a config that are sound by themselves and cannot be used, or not together."""

from __future__ import annotations

import json
import unittest

import torch

from hw_asr.config import ConfigError, parse
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.validation import examine
from hw_asr.tests.test_config import changed


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
