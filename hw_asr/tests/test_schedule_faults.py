"""Schedules that fit the length of the run and the monitored value, or are refused before it begins."""

from __future__ import annotations

import unittest
from dataclasses import replace
from typing import Any

from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.schedules import build_schedule
from hw_asr.experiment.validation import examine
from hw_asr.tests.test_schedules import Model, config, rates, settings


def monitored(monitor: str, **args: Any) -> ExperimentConfig:
    """Return a config with ReduceLROnPlateau and this monitor."""
    cfg = config({"type": "ReduceLROnPlateau", "args": args})
    trainer = {**cfg.raw["trainer"], "monitor": monitor}
    return replace(cfg, trainer=replace(cfg.trainer, monitor=monitor), raw={**cfg.raw, "trainer": trainer})


class FirstPhaseTest(unittest.TestCase):
    def test_a_rise_of_one_step(self) -> None:
        for args in (
            {"pct_start": 0.1},
            {"pct_start": 0.1, "three_phase": True},
            {"pct_start": 0.1, "total_steps": "auto"},
            {"pct_start": 0.1, "epochs": 2, "steps_per_epoch": 5},
        ):
            with self.subTest(args):
                cfg = config({"type": "OneCycleLR", "args": {"max_lr": 2.0, **args}})
                optimizer = build_optimizer(cfg, Model())
                schedule = build_schedule(cfg, optimizer, settings(1, 10, 1))
                found = [first for first, *_ in rates(optimizer, schedule._scheduler, 10)]
                self.assertAlmostEqual(found[0], 2.0 if "three_phase" not in args else 0.08, places=5)
                self.assertLess(found[-1], 0.01)

    def test_every_short_run(self) -> None:
        for steps in range(1, 60):
            cfg = config({"type": "OneCycleLR", "args": {"max_lr": 2.0, "pct_start": 1 / steps}})
            optimizer = build_optimizer(cfg, Model())
            rates(optimizer, build_schedule(cfg, optimizer, settings(1, steps, 1))._scheduler, steps)

    def test_the_length_that_is_tried_first(self) -> None:
        cfg = config({"type": "OneCycleLR", "args": {"max_lr": 2.0, "pct_start": 0.001}})
        self.assertEqual(examine(cfg.raw).faults, [])

    def test_an_infinite_rate(self) -> None:
        for rate in (float("inf"), [float("inf")]):
            (fault,) = examine(config({"type": "OneCycleLR", "args": {"max_lr": rate}}).raw).faults
            self.assertEqual(fault, "lr_scheduler.args.max_lr: expected at most 3.4e+38, got inf")

    def test_what_the_real_length_makes_impossible(self) -> None:
        cfg = config({"type": "CosineAnnealingWarmRestarts", "args": {"T_0": 0}})
        with self.assertRaisesRegex(ConfigError, "lr_scheduler.args: .*T_0.*, in a run of 12"):
            build_schedule(cfg, build_optimizer(cfg, Model()), settings())


class PlateauTest(unittest.TestCase):
    def test_the_direction_is_that_of_the_monitor(self) -> None:
        for monitor, mode in (("min val_loss", "min"), ("max val_loss", "max")):
            for args in ({}, {"mode": mode}):
                cfg = monitored(monitor, **args)
                self.assertEqual(examine(cfg.raw).faults, [])
                schedule = build_schedule(cfg, build_optimizer(cfg, Model()), settings())
                self.assertEqual(schedule.state_dict()["mode"], mode)

    def test_the_other_direction_is_a_fault(self) -> None:
        for monitor, mode in (("min val_loss", "max"), ("max val_loss", "min")):
            self.assertEqual(
                examine(monitored(monitor, mode=mode).raw).faults,
                [f"lr_scheduler.args.mode: {mode!r}, but trainer.monitor is {monitor!r}; remove this key"],
            )
        (fault,) = examine(monitored("val_loss", mode="max").raw).faults
        self.assertIn("trainer.monitor: expected 'min SPLIT_METRIC'", fault)


if __name__ == "__main__":
    unittest.main()
