"""Assembles a training run from a config, its data and optionally a checkpoint."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hw_asr.checkpoints.restoring import check_format, check_optimizer, matching, on_this_device, restoring
from hw_asr.checkpoints.weights import load_weights
from hw_asr.config import ExperimentConfig
from hw_asr.experiment import components
from hw_asr.experiment.network import Network
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.resume_rules import (
    apply_changes,
    fixed_changes,
    forget_best,
    group_options,
    schedule_changed,
)
from hw_asr.experiment.schedules import build_schedule, check_schedule, run_settings
from hw_asr.experiment.training_data import TrainingData
from hw_asr.experiment.transfer import Weights, load_initial_weights
from hw_asr.experiment.writers import WRITER_STATE, make_writer
from hw_asr.runtime.processes import Processes
from hw_asr.storage.runs import Run
from hw_asr.training.average import WeightAverage
from hw_asr.training.evaluation import Evaluator, Scoring
from hw_asr.training.learner import Learner
from hw_asr.training.prediction_log import NoPredictions, PredictionLogger
from hw_asr.training.progress import Progress
from hw_asr.training.snapshots import SavePolicy, Snapshots, num_steps
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.training.step_log import StepLog, StepLogSettings
from hw_asr.training.stream import BatchStream
from hw_asr.training.trainer import Output, Trainer
from hw_asr.types import CTCDecoder
from hw_asr.writers.base import Writer
from hw_asr.writers.null import NullWriter

logger = logging.getLogger(__name__)


class Experiment:
    """One training run on one process. New weights come from `trainer.seed`, or from `weights`."""

    def __init__(
        self,
        config: ExperimentConfig,
        network: Network,
        data: TrainingData,
        processes: Processes,
        weights: Weights | None = None,
    ) -> None:
        self._config, self._network, self._data, self._processes = config, network, data, processes
        trainer, model = config.trainer, network.model
        if weights is not None:
            logger.info(load_initial_weights(config, network, weights))
        self.settings = run_settings(trainer, trainer.len_epoch or len(data.train.sampler))
        step = _make_step(config, network, processes)
        optimizer = step.optimizer
        if step.freezing.describe():
            logger.info("not trained: %s", step.freezing.describe())
        self._options = group_options(optimizer)
        check_schedule(config, self.settings)
        schedule = build_schedule(config, optimizer, self.settings)
        progress = Progress(num_processes=processes.size)
        self.learner = Learner(step, schedule, WeightAverage(model, trainer.ema_decay), progress)
        self._writer_state: Mapping[str, object] = {}

    def restore(self, state: Mapping[str, Any], source: Path) -> None:
        """Restore the whole state of a checkpoint; raises CheckpointError if it has only weights.

        Of one that was written before the first step, by a run with another optimiser for example, only the weights.
        """
        check_format(state, source)
        if num_steps(state) == 0 and fixed_changes(self._config, state.get("config")):
            with restoring(source):
                load_weights(self._network.model, state.get("training_state_dict") or state["state_dict"], source)
                self._writer_state = matching(state.get("writers") or {}, WRITER_STATE, "writers", source)
            return
        new_schedule = schedule_changed(self._config, self.learner.schedule.state_dict(), state, self._processes.size)
        if new_schedule:
            state = {**state, "lr_scheduler": None}
        progress, optimizer, saved = self.learner.progress, self.learner.step.optimizer, state.get("config")
        with restoring(source):
            self.learner.load_state_dict(self._checked(state, source), source)
            steps_per_pass = self.settings.steps_per_epoch if self._config.trainer.len_epoch is None else None
            progress.share_among(self._processes.size, steps_per_pass, self.settings.accumulate_grad_steps)
            rate = optimizer.param_groups[0]["lr"]
            apply_changes(self._config, saved, optimizer, self._options)
            forget_best(self._config, saved, progress)
        if new_schedule:
            self._derive_schedule(rate)
        self._writer_state = state.get("writers") or {}

    def _checked(self, state: Mapping[str, Any], source: Path) -> dict[str, Any]:
        """Return a checkpoint whose training states fit the objects of this run; raises CheckpointError."""
        optimizer = self.learner.step.optimizer
        check_optimizer(state["optimizer"], optimizer, source)
        checked: dict[str, object] = {"optimizer": on_this_device(state["optimizer"], optimizer)}
        for name, part in self.learner.parts().items():
            # Empty for a part that was not in use: no schedule, no loss scaler.
            if name != "optimizer" and (state[name] or name == "progress"):
                checked[name] = matching(state[name], part.state_dict() or {}, name, source)
        matching(state.get("writers") or {}, WRITER_STATE, "writers", source)
        return {**state, **checked}

    def _derive_schedule(self, rate: float) -> None:
        """Rebuild the schedule for the current settings and set it to the current position; `rate` was the last one."""
        optimizer, progress, settings = self.learner.step.optimizer, self.learner.progress, self.settings
        for group, options in zip(optimizer.param_groups, self._options, strict=True):
            group.pop("initial_lr", None)
            group.update(options)
        self.learner.schedule = schedule = build_schedule(self._config, optimizer, settings)
        end = settings.epochs if schedule.per_epoch else settings.epochs * settings.steps_per_epoch
        schedule.advance_to(min(end, schedule.place(progress, settings.steps_per_epoch)))
        if math.isclose(rate, optimizer.param_groups[0]["lr"]):
            return
        logger.warning(
            "learning-rate schedule recomputed for %d epochs of %d steps: the rate at step %d is %.3g, was %.3g",
            settings.epochs, settings.steps_per_epoch, progress.step, optimizer.param_groups[0]["lr"], rate,
        )  # fmt: skip

    def state_dict(self, writer: Writer) -> dict[str, object]:
        """Return a checkpoint of the current state: tensors and plain data."""
        progress = self.learner.progress
        return {
            "format": 1,
            "arch": self._config.arch["type"],
            "epoch": progress.epoch - 1,
            **self.learner.state_dict(),
            "monitor_best": progress.best,
            "alphabet": list(self._network.text_encoder.alphabet),
            "writers": writer.state_dict(),
            "config": self._config.raw,
        }

    def writer(self, run: Run) -> Writer:
        """Return the writers of the config and of metrics.jsonl; a NullWriter on other processes than the main one."""
        return make_writer(self._config, run, self._writer_state) if self._processes.is_main else NullWriter()

    def describe_best(self) -> str:
        """Return the best monitored value as text; empty before the first evaluation."""
        best = self.learner.progress.best
        return "" if best is None else f"{self._config.trainer.monitor} {best:.4g}"

    def snapshots(self, run: Run, writer: Writer, export: Callable[[Path, int], None] | None) -> Snapshots | None:
        """Return the writer of checkpoints; None on other processes than the main one."""
        if not self._processes.is_main:
            return None
        trainer = self._config.trainer
        policy = SavePolicy(
            trainer.save_period, trainer.keep_last, trainer.keep_every, trainer.save_minutes, trainer.save_steps,
            trainer.export_minutes,
        )  # fmt: skip
        return Snapshots(run, lambda: self.state_dict(writer), policy, export or (lambda path, step: None))

    def trainer(self, writer: Writer, snapshots: Snapshots | None) -> Trainer:
        """Return the trainer; decoders and language models are loaded here."""
        config, trainer, processes = self._config, self._config.trainer, self._processes
        processes.broadcast([*self._network.model.parameters(), *self._network.model.buffers()])
        num_workers = config.data["train"].num_workers
        loader = self._data.train.loader(num_workers, processes.device)
        stream = BatchStream(loader, self._data.train.sampler, self.learner.progress)
        decoders, predictions = self._decoders(writer)
        log_settings = StepLogSettings(
            trainer.log_step,
            trainer.log_histograms,
            config.preprocessing.sr,
            processes.size,
            at_epoch_end=self.settings.steps_per_epoch < trainer.log_step,
        )
        log = StepLog(writer, predictions, decoders["argmax"], log_settings)
        evaluators = [self._evaluator(name, decoders) for name in self._data.evaluation]
        return Trainer(self.settings, self.learner, stream, evaluators, Output(snapshots, log), processes)

    def _evaluator(self, name: str, decoders: Mapping[str, CTCDecoder]) -> Evaluator:
        config, device = self._config, self._processes.device
        loader = self._data.evaluation[name].loader(config.data[name].num_workers, device)
        scoring = Scoring(components.build_loss(config), components.build_metrics(config), decoders)
        front_end = self._network.front_end
        return Evaluator(name, loader, front_end, scoring, self._processes, config.trainer.precision)

    def _decoders(self, writer: Writer) -> tuple[dict[str, CTCDecoder], PredictionLogger | NoPredictions]:
        """Return the decoders that metrics and logs need, and the log of predictions where a writer shows it."""
        config, trainer, encoder = self._config, self._config.trainer, self._network.text_encoder
        specs = components.training_decoder_specs(config, encoder, components.build_metrics(config))
        decoders = components.build_decoders(specs, encoder)
        if trainer.visualize in ("none", [], ["none"]) or "beam_search" not in decoders:
            return decoders, NoPredictions()
        return decoders, PredictionLogger(writer, encoder, decoders, trainer.log_predictions, config.preprocessing.sr)


def _make_step(config: ExperimentConfig, network: Network, processes: Processes) -> TrainingStep:
    """Return the training step with its augmentations, loss and optimizer."""
    trainer, transfer = config.trainer, config.trainer.transfer
    return TrainingStep(
        network.model,
        network.front_end,
        Augmentations(*components.build_augmentations(config, network.front_end.n_feats)),
        components.build_loss(config),
        build_optimizer(config, network.model),
        processes,
        StepSettings(
            trainer.precision,
            trainer.grad_norm_clip,
            trainer.seed,
            transfer.freeze,
            transfer.unfreeze_after_epochs,
        ),
    )
