"""Training states that do not fit the objects they go to end in one line; those that fit are taken over whole."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import torch
from torch.optim import lr_scheduler

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.restoring import check_optimizer, matching, restoring
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.tests.training_case import TrainingCase, run_dir
from hw_asr.training.progress import Progress

SOURCE = Path("last.pth")


class MatchingTest(unittest.TestCase):
    def test_schedules_of_torch_take_over_their_own_states(self) -> None:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
        schedules: list[Any] = [
            lr_scheduler.StepLR(optimizer, 3), lr_scheduler.MultiStepLR(optimizer, [2, 2, 5]),
            lr_scheduler.OneCycleLR(optimizer, 1.0, 10), lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
            lr_scheduler.ReduceLROnPlateau(optimizer), lr_scheduler.PolynomialLR(optimizer),
        ]  # fmt: skip
        for schedule in schedules:
            state = schedule.state_dict()
            self.assertEqual(state, matching(state, state, "lr_scheduler", SOURCE))
            self.assertEqual(state, matching({**state, "step": 5, "optimizer": "x"}, state, "lr_scheduler", SOURCE))

    def test_values_of_another_kind(self) -> None:
        own = Progress().state_dict()
        for saved in (None, 5, {"epoch": "3"}, {"counts": [1]}, {"counts": {"a": torch.ones(1)}}, {"failed": {"a": {}}},
                      {"best": [1.0]}, {"window": 3}):  # fmt: skip
            with self.subTest(saved), self.assertRaisesRegex(CheckpointError, "^last.pth: progress"):
                matching(saved, own, "progress", SOURCE)
        self.assertEqual({"epoch": 3, "best": 0.5}, matching({"epoch": 3, "best": 0.5, "count": 1}, own, "p", SOURCE))

    def test_optimizers(self) -> None:
        parameter = torch.nn.Parameter(torch.ones(3))
        matrix = torch.nn.Parameter(torch.ones(3, 4))
        names = [
            "ASGD",
            "Adadelta",
            "Adafactor",
            "Adagrad",
            "Adam",
            "AdamW",
            "Adamax",
            "NAdam",
            "RAdam",
            "RMSprop",
            "Rprop",
            "SGD",
        ]
        options = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True}}
        for name in names:
            optimizer = getattr(torch.optim, name)([parameter, matrix], lr=0.1, **options.get(name, {}))
            parameter.grad, matrix.grad = torch.ones(3), torch.ones(3, 4)
            optimizer.step()
            with self.subTest(name):
                check_optimizer(optimizer.state_dict(), optimizer, SOURCE)
        good = torch.optim.Adam([parameter]).state_dict()
        adam = torch.optim.Adam([parameter])
        for wrong in (
            None, {}, {**good, "param_groups": []}, {**good, "param_groups": [5]}, {**good, "state": []},
            {**good, "state": {1: {}}}, {**good, "state": {"0": {}}}, {**good, "state": {0: []}},
            {**good, "state": {0: {"exp_avg": torch.ones(4)}}}, {**good, "state": {0: {"exp_avg": [1]}}},
            *({**good, "state": {0: {"exp_avg": value}}} for value in (torch.ones(1), torch.ones(3, 1), "x", 5,
                                                                       torch.ones(3, dtype=torch.int8))),
            *({**good, "state": {0: {"step": value}}} for value in (torch.ones(3), "x", None)),
            {**good, "state": {0: {"other": "x"}}},
            {**good, "param_groups": [{**good["param_groups"][0], "lr": "x"}]},
            {**good, "param_groups": [{**good["param_groups"][0], "betas": 0.5}]},
        ):  # fmt: skip
            with self.subTest(wrong), self.assertRaisesRegex(CheckpointError, "^last.pth: "):
                check_optimizer(wrong, adam, SOURCE)

    def test_what_an_object_raises_is_one_line(self) -> None:
        with (
            self.assertRaisesRegex(CheckpointError, "^last.pth: .*cannot be restored: KeyError: 'a'$"),
            restoring(SOURCE),
        ):
            raise KeyError("a")


class ResumeTest(TrainingCase):
    def test_states_of_another_kind_are_one_line(self) -> None:
        place = self.place(self.config(epochs=1, len_epoch=2))
        self.train(place, "-c", "config.json")
        last = run_dir(place) / "last.pth"
        state = load_checkpoint(last)
        for path in run_dir(place).glob("*.pth"):
            path.unlink()
        for changed in (
            {"progress": {**state["progress"], "counts": 5}}, {"optimizer": {}},
            {"lr_scheduler": {**state["lr_scheduler"], "_last_lr": "x"}},
            {"scaler": [1]}, {"writers": {"metrics_bytes": "x"}}, {"config": 5, "progress": None},
            {"alphabet": 5, "optimizer": 5}, {"progress": [1]},
        ):  # fmt: skip
            with self.subTest(list(changed)):
                save_checkpoint({**state, **changed}, last)
                output = self.train(place, "-r", str(last), code=1)
                self.assertNotIn("Traceback", output)
                self.assertRegex(output, r"(?m)^error: .*$")


if __name__ == "__main__":
    unittest.main()
