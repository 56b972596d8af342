"""A run that continues on another device or with another precision, and commands that keep the config's numerics."""

from __future__ import annotations

import unittest
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hw_asr.commands import dev_emissions
from hw_asr.config import parse
from hw_asr.experiment.training_run import Experiment
from hw_asr.recognition import loading
from hw_asr.runtime.processes import Processes
from hw_asr.tests.training_case import make_config
from hw_asr.writers.null import NullWriter


def experiment(checkpoint: Any = None, **changes: Any) -> Experiment:
    """Return an experiment on the CPU; `changes` are arguments of the optimiser, or `precision`."""
    raw = make_config(Path(), precision=changes.pop("precision", "fp32"))
    raw["optimizer"]["args"] |= changes
    return Experiment(parse(raw), None, Processes(), checkpoint)


class DeviceChangesTest(unittest.TestCase):
    def test_a_run_without_a_loss_scale_gets_one(self) -> None:
        state = experiment().state_dict(NullWriter())
        self.assertEqual(state["scaler"], {})
        resumed = experiment(state, precision="fp16").state_dict(NullWriter())
        self.assertEqual(resumed["scaler"]["scale"], 65536.0)
        self.assertEqual(experiment(resumed, precision="fp16").state_dict(NullWriter())["scaler"], resumed["scaler"])

    def test_the_device_decides_whether_the_optimiser_is_fused(self) -> None:
        for before, after in ((None, True), (True, None)):  # a CPU's run on a GPU, and back
            state = experiment(fused=before).state_dict(NullWriter())
            resumed = experiment(state, fused=after)._optimizer
            self.assertEqual([group["fused"] for group in resumed.param_groups], [after])
            self.assertEqual(resumed.param_groups[0]["lr"], state["optimizer"]["param_groups"][0]["lr"])

    def test_commands_keep_the_numerics_of_the_config(self) -> None:
        class StopError(Exception):
            pass

        config, state, path = parse(make_config(Path(), tf32=False)), {"state_dict": {}}, Path("x.pth")
        options = Namespace(
            resume=path, config=None, allowed_modules=[], trust_config=False, split="val", i_know=True, device="cpu",
            log_probs=None,
        )  # fmt: skip
        for module, run in (
            (loading, lambda: loading.make_waveform_model(path, state, config, "cpu")),
            (dev_emissions, lambda: dev_emissions.load_or_compute(options)),
        ):
            with (
                self.subTest(module.__name__),
                mock.patch.object(module, "load_checkpoint", return_value=state),
                mock.patch.object(module, "for_evaluation", return_value=mock.Mock(config=config)),
                mock.patch.object(module, "load_network", side_effect=StopError),
                mock.patch.object(module, "set_numerics") as set_numerics,
            ):
                self.assertRaises(StopError, run)
                set_numerics.assert_called_once_with(tf32=False, deterministic=False)


class AverageTest(unittest.TestCase):
    def test_it_follows_as_torch_does(self) -> None:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        from hw_asr.training.average import WeightAverage

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        ours = WeightAverage(model, 0.9)
        stock = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        for _ in range(4):
            model(torch.randn(5, 3))
            with torch.no_grad():
                model[0].weight.add_(0.1)
            ours.update()
            stock.update_parameters(model)
        for mine, theirs in zip(ours.evaluated.state_dict().values(), stock.module.state_dict().values(), strict=True):
            self.assertTrue(torch.equal(mine, theirs))
        self.assertEqual(int(ours.state_dict()["ema_updates"]), int(stock.n_averaged))


if __name__ == "__main__":
    unittest.main()
