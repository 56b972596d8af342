"""Learning-rate schedules that follow the run, parameter groups, and the options that change them."""

from __future__ import annotations

import inspect
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from hw_asr.commands.train_request import rate_assignments
from hw_asr.config import ConfigError, ExperimentConfig, parse
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.resume_rules import schedule_changed
from hw_asr.experiment.schedule_arguments import schedule_faults
from hw_asr.experiment.schedules import build_schedule, check_schedule
from hw_asr.experiment.validation import examine
from hw_asr.tests.training_case import TrainingCase, make_config, outcome, run_dir
from hw_asr.training.trainer import TrainerSettings


def config(schedule: dict[str, Any] | None, **optimizer: Any) -> ExperimentConfig:
    """Return a config with this schedule, and these keys of the optimiser."""
    raw = make_config(Path())
    raw["optimizer"] = {"type": "SGD", "args": {"lr": 0.5, "momentum": 0.9}, **optimizer}
    return parse({**raw, "lr_scheduler": schedule})


def settings(epochs: int = 3, batches: int = 7, accumulate: int = 2) -> TrainerSettings:
    """Return the length of a run of, by default, 3 epochs of 4 steps."""
    return TrainerSettings(epochs, batches, accumulate, monitor=None, early_stop=None, max_bad_steps=1)


class Model(nn.Module):
    """Two layers whose names begin alike."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(2, 2)
        self.block_2 = nn.Linear(2, 2)


def rates(optimizer: torch.optim.Optimizer, schedule: Any, number: int) -> list[list[float]]:
    """Return the learning rates of each group, step after step."""
    found = []
    for _ in range(number):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


class LengthTest(unittest.TestCase):
    def test_auto_is_the_length_of_the_run(self) -> None:
        library = torch.optim.lr_scheduler
        cases: list[tuple[dict[str, Any], Any, str | None, int]] = [
            ({"type": "OneCycleLR", "args": {"max_lr": 2.0}}, lambda o: library.OneCycleLR(o, 2.0, total_steps=12),
             None, 12),
            ({"type": "OneCycleLR", "args": {"max_lr": 2.0, "total_steps": "auto"}},
             lambda o: library.OneCycleLR(o, 2.0, total_steps=12), None, 12),
            ({"type": "CosineAnnealingLR", "args": {"T_max": "auto"}}, lambda o: library.CosineAnnealingLR(o, 12),
             None, 12),
            ({"type": "LinearLR", "args": {"total_iters": "auto", "start_factor": 0.1}},
             lambda o: library.LinearLR(o, 0.1, total_iters=3), "epoch", 3),
        ]  # fmt: skip
        for spec, make, setting, number in cases:
            with self.subTest(spec):
                cfg = config(spec)
                cfg = replace(cfg, trainer=replace(cfg.trainer, scheduler_step=setting))
                self.assertEqual(examine(cfg.raw).faults, [])
                model = Model()
                own = build_optimizer(cfg, model)
                schedule = build_schedule(cfg, own, settings())
                self.assertEqual(schedule.per_epoch, setting == "epoch")
                expected = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
                oracle = rates(expected, make(expected), number)
                self.assertEqual(rates(own, schedule._scheduler, number), oracle)

    def test_a_place_in_the_run_is_as_many_steps(self) -> None:
        cfg = config({"type": "OneCycleLR", "args": {"max_lr": 2.0}})
        own, other = (build_optimizer(cfg, Model()) for _ in range(2))
        build_schedule(cfg, own, settings()).advance_to(5)
        schedule = build_schedule(cfg, other, settings())
        rates(other, schedule._scheduler, 5)
        self.assertEqual(own.param_groups[0]["lr"], other.param_groups[0]["lr"])
        self.assertEqual(own.param_groups[0]["momentum"], other.param_groups[0]["momentum"])

    def test_lengths_that_do_not_fit(self) -> None:
        short = config({"type": "OneCycleLR", "args": {"max_lr": 2.0, "total_steps": 11}})
        product = config({"type": "OneCycleLR", "args": {"max_lr": 2.0, "epochs": 1, "steps_per_epoch": 11}})
        for schedule in (short, product):
            with self.assertRaisesRegex(ConfigError, "total_steps: 11, but the run takes 12 steps; .*--set"):
                check_schedule(schedule, settings())
        long = config({"type": "CosineAnnealingLR", "args": {"T_max": 654}})
        with self.assertLogs("hw_asr.experiment.schedules", "WARNING") as logs:
            check_schedule(long, settings())
        self.assertIn("T_max is 654, but the run takes 12 steps", logs.output[0])


class ArgumentsTest(unittest.TestCase):
    BASES: ClassVar[dict[str, dict[str, Any]]] = {
        "ConstantLR": {}, "LinearLR": {}, "PolynomialLR": {}, "ReduceLROnPlateau": {},
        "CosineAnnealingLR": {"T_max": 5}, "CosineAnnealingWarmRestarts": {"T_0": 3}, "ExponentialLR": {"gamma": 0.9},
        "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0}, "MultiStepLR": {"milestones": [2, 4]}, "StepLR": {"step_size": 2},
        "OneCycleLR": {"max_lr": 1.0, "total_steps": 20},
    }  # fmt: skip
    VALUES: tuple[Any, ...] = (
        "auto",
        "3",
        "0.1",
        -1,
        -0.5,
        0,
        0.5,
        1,
        3,
        10**400,
        True,
        [],
        ["a"],
        [0.2],
        [-1],
        {"a": 1},
    )

    def test_what_passes_can_be_stepped(self) -> None:
        for name, base in self.BASES.items():
            factory = getattr(torch.optim.lr_scheduler, name)
            self.assertEqual(faults_of(name, base), [])
            for parameter in set(inspect.signature(factory).parameters) - {"optimizer", "verbose"}:
                passed = 0
                for value in self.VALUES:
                    with self.subTest(name, parameter=parameter, value=repr(value)[:20]):
                        faults = faults_of(name, {**base, parameter: value})
                        if faults:
                            found = "|".join(faults)
                            self.assertRegex(
                                found, rf"lr_scheduler\.args\.{parameter}.*: (expected|unknown).*(got|known)"
                            )
                        elif (parameter, value) != ("total_steps", 1) and (parameter, value) != ("total_steps", 3):
                            passed += 1
                            self.step(factory, {**base, parameter: value})
                self.assertLess(passed, len(self.VALUES) - 6, (name, parameter))

    def step(self, factory: Any, args: dict[str, Any]) -> None:
        optimizer = torch.optim.SGD(Model().parameters(), lr=0.5, momentum=0.9)
        try:
            schedule = factory(optimizer, **args)
        except ValueError as error:  # as a fault of the config shows it, if two arguments do not fit each other
            self.assertRegex(
                str(error), "total_steps OR|same length as|1 min_lrs|Factor should be < 1|pct_start, but got [01]$"
            )
            return
        for _ in range(12):
            optimizer.step()
            schedule.step(*([1.0] if factory.__name__ == "ReduceLROnPlateau" else []))
            self.assertTrue(-1e-9 <= optimizer.param_groups[0]["lr"] < 1e9, optimizer.param_groups[0]["lr"])

    def test_the_messages(self) -> None:
        args = {"base_lr": 0.1, "max_lr": "1", "step_size_up": "auto", "step_size_down": 0, "mode": "saw"}
        faults = examine(config({"type": "CyclicLR", "args": args}).raw).faults
        self.assertCountEqual(
            [fault.replace("an integer", "a number") for fault in faults],  # torch 2.6 wants integers
            [
                "lr_scheduler.args.max_lr: expected a number or a list of (a number), got '1'",
                "lr_scheduler.args.step_size_up: expected a number, got 'auto'",
                "lr_scheduler.args.step_size_down: expected more than 0, got 0",
                "lr_scheduler.args.mode: unknown value 'saw'; known: exp_range, triangular, triangular2",
            ],
        )
        (fault,) = examine(config({"type": "LambdaLR", "args": {"lr_lambda": "x"}}).raw).faults
        self.assertRegex(fault, "^lr_scheduler.type: LambdaLR takes Python objects")
        last_epoch = faults_of("StepLR", {"step_size": 2, "last_epoch": 3})[0]
        self.assertIn("expected -1, since a checkpoint stores", last_epoch)


def faults_of(name: str, args: dict[str, Any]) -> list[str]:
    """Return the faults of a schedule's spec, as far as no object is made of it."""
    return schedule_faults({"type": name, "args": args}, "lr_scheduler", ["optimizer"])


class GroupsTest(unittest.TestCase):
    GROUPS = ({"match": "block", "lr_scale": 0.1, "weight_decay": 0.0}, {"match": "block_2.bias", "lr_scale": 2})

    def test_the_first_match_up_to_a_dot_counts(self) -> None:
        model = Model()
        optimizer = build_optimizer(config(None, groups=list(self.GROUPS)), model)
        rest, first, second = optimizer.param_groups
        self.assertEqual([len(group["params"]) for group in optimizer.param_groups], [1, 2, 1])
        self.assertIs(rest["params"][0], model.block_2.weight)
        self.assertIs(second["params"][0], model.block_2.bias)
        self.assertEqual([group["lr"] for group in (rest, first, second)], [0.5, 0.05, 1.0])
        self.assertEqual(first["weight_decay"], 0)

    def test_layer_decay_counts_from_the_last_layer(self) -> None:
        model = nn.ModuleDict({"head": nn.Linear(1, 1), "layers": nn.ModuleList(nn.Linear(1, 1) for _ in range(11))})
        groups = [{"match": "layers", "lr_scale": 0.5, "layer_decay": 0.8, "weight_decay": 0.0}]
        head, *layers = build_optimizer(config(None, groups=groups), model).param_groups
        self.assertIs(head["params"][0], model["head"].weight)
        self.assertEqual(len(layers), 11)
        for number, group in enumerate(layers):
            self.assertAlmostEqual(group["lr"], head["lr"] * 0.5 * 0.8 ** (10 - number))
            self.assertIs(group["params"][0], model["layers"][number].weight)
            self.assertEqual((len(group["params"]), group["weight_decay"]), (2, 0.0))

    def test_the_scale_holds_under_every_schedule(self) -> None:
        for spec in (
            {"type": "OneCycleLR", "args": {"max_lr": 2.0}},
            {"type": "CyclicLR", "args": {"base_lr": 0.1, "max_lr": 2.0, "step_size_up": 3}},
            {"type": "CosineAnnealingLR", "args": {"T_max": "auto"}},
            {"type": "StepLR", "args": {"step_size": 2}},
        ):
            with self.subTest(spec["type"]):
                cfg = config(spec, groups=list(self.GROUPS))
                optimizer = build_optimizer(cfg, Model())
                schedule = build_schedule(cfg, optimizer, settings())
                for rest, first, second in rates(optimizer, schedule._scheduler, 11):
                    self.assertAlmostEqual(first, 0.1 * rest)
                    self.assertAlmostEqual(second, 2 * rest)

    def test_faults(self) -> None:
        raw = make_config(Path())
        cases = {
            "optimizer.groups[0].match: missing": [{"lr_scale": 1}],
            "optimizer.groups[0].lr_scale: expected a number of 0 or more, got -1": [{"match": "x", "lr_scale": -1}],
            "optimizer.groups[0].lr_scal: unknown key; did you mean 'lr_scale'?": [{"match": "x", "lr_scal": 1}],
            "optimizer.groups[0].layer_decay: expected a number in (0, 1], got 0": [{"match": "x", "layer_decay": 0}],
            "groups[0].layer_decay: 'gru_block' is not a list of layers": [{"match": "gru_block", "layer_decay": 0.9}],
            "groups[0].match: 'cnn' matches no parameter": [{"match": "cnn"}],
            "groups[1].match: 'cnn_block' matches no parameter": [{"match": "cnn_block"}, {"match": "cnn_block"}],
        }
        for expected, groups in cases.items():
            raw["optimizer"]["groups"] = groups
            self.assertIn(expected, "\n".join(examine(raw).faults))


class LearningRateOptionTest(unittest.TestCase):
    def test_it_has_an_effect_or_is_refused(self) -> None:
        self.assertEqual(rate_assignments({}, 0.5), ["optimizer.args.lr=0.5"])
        step = {"lr_scheduler": {"type": "StepLR", "args": {"step_size": 2}}}
        self.assertEqual(rate_assignments(step, 0.5), ["optimizer.args.lr=0.5"])
        cycle = {"lr_scheduler": {"type": "OneCycleLR", "args": {"max_lr": 1}}}
        self.assertEqual(rate_assignments(cycle, 0.5)[1:], ["lr_scheduler.args.max_lr=0.5"])
        with self.assertRaisesRegex(ConfigError, "--lr: CyclicLR ignores it"):
            rate_assignments({"lr_scheduler": {"type": "CyclicLR", "args": {"base_lr": 1, "max_lr": 2}}}, 0.5)


class ContinuedRunTest(TrainingCase):
    def test_more_epochs_and_another_rate(self) -> None:
        raw = self.config(epochs=1)
        raw["lr_scheduler"]["args"] = {"max_lr": 0.02}
        place = self.place(raw)
        last = str(run_dir(place) / "last.pth")
        self.train(place, "-c", "config.json")
        self.assertEqual(outcome(place)[0]["lr_scheduler"]["total_steps"], 5)
        output = self.train(place, "-r", last, "--set", "trainer.epochs=2", "--lr", "0.04")
        self.assertIn("schedule recomputed for 2 epochs of 5 steps: the rate at step 5 is", output)
        state, _ = outcome(place)
        self.assertEqual((state["lr_scheduler"]["total_steps"], state["lr_scheduler"]["last_epoch"]), (10, 10))
        self.assertAlmostEqual(state["optimizer"]["param_groups"][0]["max_lr"], 0.04)
        output = self.train(place, "-r", last)
        self.assertIn("nothing to do: all 2 epochs", output)
        self.assertNotIn("recomputed", output)
        cosine = 'lr_scheduler={"type":"CosineAnnealingLR","args":{"T_max":"auto"}}'
        self.train(place, "-r", last, "--set", "trainer.epochs=3", "--set", cosine)
        schedule = outcome(place)[0]["lr_scheduler"]
        self.assertEqual((schedule["T_max"], schedule["last_epoch"]), (15, 15))

    def test_what_changes_a_schedule(self) -> None:
        def changed(schedule: Any, now: dict[str, Any], num_processes: int = 1) -> bool:
            raw = config(schedule).raw
            optimizer = build_optimizer(parse(raw), Model())
            state = build_schedule(parse(raw), optimizer, settings()).state_dict()
            checkpoint = {"config": raw, "lr_scheduler": state, "progress": {"num_processes": 1}}
            new = parse({**raw, **now})
            fresh = build_schedule(new, build_optimizer(new, Model()), settings()).state_dict()
            return schedule_changed(new, fresh, checkpoint, num_processes)

        cycle = {"type": "OneCycleLR", "args": {"max_lr": 2.0}}
        step = {"type": "StepLR", "args": {"step_size": 2}}
        # The length of a run may stay the same by chance: twice the epochs, on twice the processes.
        longer = {"trainer": {**make_config(Path())["trainer"], "epochs": 8}}
        for schedule, now, processes, expected in (
            (cycle, {}, 1, False), (cycle, {}, 2, True), (cycle, longer, 1, True),
            (cycle, {"lr_scheduler": None}, 1, True), (cycle, {"lr_scheduler": step}, 1, True), (step, {}, 2, False),
            (step, longer, 1, False),
            (step, {"lr_scheduler": {"type": "StepLR", "args": {"step_size": 3}}}, 1, True),
            (None, longer, 2, False),
        ):  # fmt: skip
            with self.subTest(schedule=schedule, now=now, processes=processes):
                self.assertEqual(changed(schedule, now, processes), expected)


if __name__ == "__main__":
    unittest.main()
