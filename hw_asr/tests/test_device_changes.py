"""A run that continues on another device or with another precision, and commands that keep the config's numerics."""

from __future__ import annotations

import unittest
from argparse import Namespace
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hw_asr.commands import dev_emissions, train_check_batch
from hw_asr.commands.recognition_model import make_model
from hw_asr.config import parse
from hw_asr.experiment.network import make_network
from hw_asr.experiment.training_data import BatchedSplit, TrainingData
from hw_asr.experiment.training_run import Experiment
from hw_asr.recognition import torch_loading
from hw_asr.runtime import devices
from hw_asr.runtime.memory import MemoryExhaustedError
from hw_asr.runtime.processes import Processes
from hw_asr.tests.test_devices import ACCELERATOR_ERROR
from hw_asr.tests.training_case import make_config
from hw_asr.training.step_result import SCALE_LOWERED
from hw_asr.writers.null import NullWriter


def experiment(checkpoint: Any = None, **changes: Any) -> Experiment:
    """Return an experiment on the CPU without data; `changes` are arguments of the optimiser, or `precision`."""
    raw = make_config(Path(), precision=changes.pop("precision", "fp32"))
    raw["optimizer"]["args"] |= changes
    raw["lr_scheduler"] = None
    config = parse(raw)
    data = TrainingData(BatchedSplit(mock.Mock(), mock.Mock()), {})
    made = Experiment(config, make_network(config, torch.device("cpu")), data, Processes())
    if checkpoint is not None:
        made.restore(checkpoint, Path("last.pth"))
    return made


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
            resumed = experiment(state, fused=after).learner.step.optimizer
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
            (torch_loading, lambda: make_model(options, state, config)),
            (dev_emissions, lambda: dev_emissions.load_or_compute(options, mock.Mock())),
        ):
            with (
                self.subTest(module.__name__),
                mock.patch.object(dev_emissions, "load_checkpoint", return_value=state),
                mock.patch.object(dev_emissions, "for_evaluation", return_value=mock.Mock(config=config)),
                mock.patch.object(module, "load_network", side_effect=StopError),
                mock.patch.object(dev_emissions, "set_numerics") as set_numerics,
                mock.patch.object(devices, "set_numerics", set_numerics),
            ):
                self.assertRaises(StopError, run)
                set_numerics.assert_called_once_with(tf32=False, deterministic=False)


class CheckBatchTest(unittest.TestCase):
    def test_memory_of_the_chosen_gpu_and_the_time_of_a_second_step(self) -> None:
        config, batch = parse(make_config(Path())), mock.MagicMock(sample_lengths=torch.tensor([8000]))
        batch.__len__.return_value = 3
        problems = iter([SCALE_LOWERED, None])
        seconds = iter([0.0, 100.0, 100.0, 102.0])
        step = mock.Mock()
        step.run.side_effect = lambda placed: mock.Mock(problem=next(problems))
        fakes: dict[str, Any] = {
            "check": mock.DEFAULT, "set_threads": mock.DEFAULT, "make_network": mock.DEFAULT,
            "load_train_split": mock.DEFAULT, "set_numerics": mock.DEFAULT, "synchronize": mock.DEFAULT,
            "read_request": mock.Mock(return_value=(config, None)),
            "choose_device": mock.Mock(return_value=torch.device("cuda", 1)),
            "TrainingData": mock.Mock(return_value=mock.Mock(longest_batch=lambda: batch)),
            "Experiment": mock.Mock(return_value=mock.Mock(learner=mock.Mock(step=step))),
        }  # fmt: skip
        printed = StringIO()
        with (
            mock.patch.multiple(train_check_batch, **fakes),
            mock.patch.object(train_check_batch.time, "perf_counter", lambda: next(seconds)),
            mock.patch.object(torch.cuda, "set_device") as set_device,
            mock.patch.object(torch.cuda, "max_memory_allocated", return_value=3 * 2**29) as memory,
            redirect_stdout(printed),
        ):
            self.assertEqual(train_check_batch.check_batch(mock.Mock()), 0)
        for called in (set_device, memory):
            called.assert_called_once_with(torch.device("cuda", 1))
        self.assertEqual(step.run.call_count, 2)
        self.assertIn("a step of 2.0 s, 1.5 GiB of GPU memory", printed.getvalue())


class OutOfMemoryTest(unittest.TestCase):
    def test_tuning_names_the_option(self) -> None:
        def fail(*_: Any) -> Any:
            raise ACCELERATOR_ERROR("CUDA error: out of memory")

        network = mock.Mock(**{"model.parameters": lambda: iter([torch.zeros(1)])})
        model = dev_emissions.Model(network, parse(make_config(Path())), "x")
        with (
            mock.patch.multiple(dev_emissions, load_split=mock.MagicMock(), make_loader=mock.DEFAULT, emissions=fail),
            self.assertRaisesRegex(MemoryExhaustedError, r"out of memory.*use a smaller batch \(-b\) or --device cpu"),
        ):
            dev_emissions.compute(model, "val", 1)


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
