"""Runs that are continued from an older checkpoint, or with other settings."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.config import ConfigError, parse
from hw_asr.experiment.network import make_network
from hw_asr.experiment.resume_rules import apply_changes, compare, group_options
from hw_asr.experiment.split_data import make_sampler
from hw_asr.experiment.training_data import TrainingData
from hw_asr.experiment.training_run import Experiment
from hw_asr.experiment.validation import examine
from hw_asr.runtime.processes import Processes
from hw_asr.tests.training_case import TrainingCase, differences, make_config, outcome, run_dir
from hw_asr.training.monitor import Monitor
from hw_asr.training.progress import Progress
from hw_asr.training.schedule import Schedule


class ContinuedTest(TrainingCase):
    def test_from_an_older_checkpoint(self) -> None:
        place = self.place(self.config(epochs=5, early_stop=None, keep_every=2, monitor="off"))
        self.train(place, "-c", "config.json")
        before = outcome(place)
        self.train(place, "-r", str(run_dir(place) / "checkpoint-epoch2.pth"))
        self.assertEqual([], differences(before, outcome(place)))
        kept = sorted(path.name for path in run_dir(place).glob("checkpoint-epoch*.pth"))
        self.assertEqual([f"checkpoint-epoch{epoch}.pth" for epoch in (2, 4, 5)], kept)

    def test_with_fewer_epochs_than_are_done(self) -> None:
        raw = self.config(epochs=3)
        raw["lr_scheduler"]["args"]["total_steps"] = "auto"
        place = self.place(raw)
        self.train(place, "-c", "config.json")
        output = self.train(place, "-r", str(run_dir(place) / "last.pth"), "--set", "trainer.epochs=2")
        self.assertIn("nothing to do: all 2 epochs", output)

    def test_from_before_the_first_step_every_setting_can_change(self) -> None:
        raw = {**self.config(epochs=1), "lr_scheduler": None}
        path = self.place({}) / "last.pth"
        first = self.experiment(raw)
        save_checkpoint({**first.learner.state_dict(), "format": 1, "writers": {}, "config": raw}, path)
        changed = {**raw, "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}}}
        changed["trainer"] = {**raw["trainer"], "ema_decay": 0.9, "seed": 5}
        second = self.experiment(changed)
        state = load_checkpoint(path)
        second.restore(state, path)
        restored = second.learner.step.model.state_dict()
        self.assertEqual([], differences(dict(state["state_dict"]), dict(restored)))
        self.assertEqual(0.9, second.learner.step.optimizer.param_groups[0]["momentum"])

    def test_what_statistics_were_measured_on_stays(self) -> None:
        raw = self.config()
        raw["preprocessing"]["normalize"] = "global"
        changed = json.loads(json.dumps(raw))
        changed["data"]["train"]["datasets"] = raw["data"]["val"]["datasets"]
        with self.assertRaisesRegex(ConfigError, "data.train.datasets"):
            compare(parse(changed), raw, Path("last.pth"), 0)

    def test_a_damaged_checkpoint_does_not_replace_the_one_before(self) -> None:
        place = self.place(self.config(epochs=2, keep_last=None, save_period=100, monitor="off", early_stop=None))
        self.train(place, "-c", "config.json")
        last, previous = run_dir(place) / "last.pth", run_dir(place) / "previous.pth"
        intact = previous.read_bytes()
        last.write_bytes(b"PK damaged")
        self.train(place, "-r", str(last), "--set", "trainer.epochs=1")
        self.assertEqual(intact, previous.read_bytes())
        self.assertEqual(load_checkpoint(previous)["progress"]["step"], load_checkpoint(last)["progress"]["step"])

    def experiment(self, raw: dict[str, Any]) -> Experiment:
        config, processes = parse(raw), Processes()
        network = make_network(config, processes.device)
        return Experiment(config, network, TrainingData.load(config, network, processes), processes)

    def test_a_removed_argument_of_the_optimizer_gets_its_default(self) -> None:
        raw = make_config(Path())
        saved = {**raw, "optimizer": {"type": "AdamW", "args": {"lr": 0.003, "weight_decay": 0.5}}}
        optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=0.003)
        options = group_options(optimizer)
        optimizer.param_groups[0]["weight_decay"] = 0.5
        apply_changes(parse(raw), saved, optimizer, options)
        self.assertEqual(0.01, optimizer.param_groups[0]["weight_decay"])

    def test_epochs_that_are_shorter_than_the_place_in_the_epoch(self) -> None:
        self.assertEqual(20 + 3, Schedule(None).place(Progress(epoch=3, step_in_epoch=3), 10))
        self.assertEqual(20 + 10, Schedule(None).place(Progress(epoch=3, step_in_epoch=24), 10))

    def test_an_optimizer_remembers_more_than_before(self) -> None:
        raw = make_config(Path())
        for kind, argument in (("AdamW", "amsgrad"), ("RMSprop", "centered"), ("RMSprop", "momentum")):
            with self.subTest(kind, argument=argument):
                layer = torch.nn.Linear(1, 1)
                layer(torch.ones(1, 1)).backward()
                restored = getattr(torch.optim, kind)(layer.parameters(), lr=0.003)
                restored.step()
                config = parse({**raw, "optimizer": {"type": kind, "args": {"lr": 0.003, argument: 0.5}}})
                fresh = getattr(torch.optim, kind)(layer.parameters(), lr=0.003, **{argument: 0.5})
                saved = {**raw, "optimizer": {"type": kind, "args": {"lr": 0.003}}}
                apply_changes(config, saved, restored, group_options(fresh))
                restored.step()
                self.assertTrue(all(bool(weight.isfinite().all()) for weight in layer.parameters()))


class SettingsTest(TrainingCase):
    def test_without_a_monitor_nothing_stops_early(self) -> None:
        progress = Progress()
        self.assertFalse(progress.judge(None, {"val_loss": 1.0}))
        self.assertEqual(0, progress.epochs_without_improvement)
        self.assertTrue(progress.judge(Monitor.parse("min val_loss"), {"val_loss": 1.0}))

    def test_optimizers_that_cannot_be_used_are_refused(self) -> None:
        for kind in ("LBFGS", "SparseAdam"):
            raw = {**make_config(Path()), "optimizer": {"type": kind, "args": {"lr": 0.1}}}
            self.assertIn(f"optimizer.type: {kind} ", "\n".join(examine(raw).faults))

    def test_a_batch_sampler_evaluates_each_utterance_once_on_several_processes(self) -> None:
        raw = self.config()
        raw["data"]["val"]["batch_sampler"] = raw["data"]["train"]["batch_sampler"]
        del raw["data"]["val"]["batch_size"]
        config = parse(raw)
        network = make_network(config, torch.device("cpu"))
        dataset = TrainingData.load(config, network, Processes()).evaluation["val"].dataset
        seen: list[int] = []
        for rank in range(2):
            processes = Processes(rank, 2)
            sampler = make_sampler(config.data["val"], dataset, training=False, seed=0, processes=processes)
            batches = list(sampler)
            self.assertEqual(len(sampler), len(batches))
            seen += [index for batch in batches for index in batch]
        self.assertEqual(list(range(7)), sorted(seen))


if __name__ == "__main__":
    unittest.main()
