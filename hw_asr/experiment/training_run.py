"""A config, and perhaps a checkpoint, to a trainer that is ready to run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.reading import CheckpointError
from hw_asr.checkpoints.weights import load_weights
from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.config.registry import WRITERS
from hw_asr.datasets.collate import collate
from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import BatchSampler, padding_share
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.experiment import components
from hw_asr.experiment.network import make_network
from hw_asr.experiment.resume_rules import apply_changes
from hw_asr.experiment.split_data import load_split, make_sampler
from hw_asr.runtime.devices import synchronize
from hw_asr.runtime.processes import Processes
from hw_asr.storage.runs import Run
from hw_asr.training.average import WeightAverage
from hw_asr.training.evaluation import Evaluator
from hw_asr.training.monitor import Monitor
from hw_asr.training.prediction_log import NoPredictions, PredictionLogger
from hw_asr.training.progress import Progress
from hw_asr.training.snapshots import Snapshots
from hw_asr.training.step import OUT_OF_MEMORY, Augmentations, StepResult, StepSettings, TrainingStep
from hw_asr.training.step_log import StepLog
from hw_asr.training.stream import BatchStream, Placed
from hw_asr.training.trainer import Trainer, TrainerSettings
from hw_asr.types import Batch, CTCDecoder, PretrainedModel
from hw_asr.writers.background import BackgroundWriter
from hw_asr.writers.base import Writer
from hw_asr.writers.jsonl import JsonlWriter
from hw_asr.writers.multi import MultiWriter
from hw_asr.writers.null import NullWriter

logger = logging.getLogger(__name__)


class Experiment:
    """Everything of one training run; `checkpoint` continues it, `weights` only gives its first values."""

    def __init__(
        self,
        config: ExperimentConfig,
        run: Run | None,
        processes: Processes,
        checkpoint: Mapping[str, Any] | None = None,
        weights: tuple[Mapping[str, Any], Path] | None = None,
    ) -> None:
        trainer = config.trainer
        self._config, self._run, self._processes = config, run, processes
        self.network = make_network(config, processes.device)
        model = self.network.model
        if weights is not None:
            load_weights(model, *weights)
        elif checkpoint is None and run is not None and isinstance(model, PretrainedModel):
            model.load_pretrained()
        self._optimizer = components.build_optimizer(config, model)
        self._scheduler = components.build_scheduler(config, self._optimizer)
        self._average = WeightAverage(model, trainer.ema_decay)
        self._step = TrainingStep(
            model,
            self.network.front_end,
            Augmentations(*components.build_augmentations(config, self.network.front_end.n_feats)),
            components.build_loss(config),
            self._optimizer,
            processes,
            StepSettings(trainer.precision, trainer.grad_norm_clip, trainer.seed),
        )
        self.progress = Progress(num_processes=processes.size)
        if checkpoint is not None:
            self._restore(checkpoint)
        processes.broadcast([*model.parameters(), *model.buffers()])
        self._writer_state: Mapping[str, Any] = (checkpoint or {}).get("writers") or {}

    def trainer(self, writer: Writer, snapshots: Snapshots | None) -> Trainer:
        """Load the data and return the trainer."""
        config, trainer, processes = self._config, self._config.trainer, self._processes
        stream = self._training_stream()
        decoders, predictions = self._decoders(writer)
        settings = TrainerSettings(
            epochs=trainer.epochs,
            batches_per_epoch=trainer.len_epoch or len(stream),
            accumulate_grad_steps=trainer.accumulate_grad_steps,
            monitor=Monitor.parse(trainer.monitor),
            early_stop=trainer.early_stop,
            max_bad_steps=trainer.max_bad_steps,
            scheduler_per_epoch=_per_epoch(trainer.scheduler_step, self._scheduler),
        )
        _check_schedule(self._scheduler, settings)
        log = StepLog(
            writer, predictions, decoders["argmax"], period=trainer.log_step, histograms=trainer.log_histograms,
            sample_rate=config.preprocessing.sr, num_processes=processes.size,
        )  # fmt: skip
        evaluators = list(self._evaluators(decoders))
        return Trainer(
            settings, self._step, stream, self._scheduler, self._average, evaluators, self.progress, snapshots, log,
            processes,
        )  # fmt: skip

    def try_longest_batch(self) -> tuple[Batch, StepResult, float]:
        """Take two steps on the batch of the first pass that needs most memory; return it with the second step.

        The seconds are those of the second step as well: the first one prepares kernels. If the first is skipped for
        lack of memory, there is no second.
        """
        dataset, sampler = self._training_data()
        longest = max(sampler, key=lambda batch: len(batch) * float(dataset.durations[batch].max()))
        batch = collate([dataset[index] for index in longest])
        for position in range(2):
            start = time.perf_counter()
            result = self._step.run([Placed(batch, 0, position)])
            synchronize(self._processes.device)
            seconds = time.perf_counter() - start
            if result.problem == OUT_OF_MEMORY:
                break
        return batch, result, seconds

    def state_dict(self, writer: Writer) -> dict[str, Any]:
        """Return the checkpoint of this moment: tensors and plain data; `state_dict` is what is evaluated."""
        return {
            "format": 1,
            "arch": self._config.arch["type"],
            "epoch": self.progress.epoch - 1,
            **self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lr_scheduler": self._scheduler.state_dict() if self._scheduler is not None else None,
            "scaler": self._step.scaler.state_dict(),
            "progress": self.progress.state_dict(),
            "monitor_best": self.progress.best,
            "alphabet": list(self.network.text_encoder.alphabet),
            "writers": writer.state_dict(),
            "config": self._config.raw,
        }

    def writer(self) -> Writer:
        """Return the writers of the config and the local record; nothing on processes that do not write."""
        if self._run is None or not self._processes.is_main:
            return NullWriter()
        trainer = self._config.trainer
        names = [trainer.visualize] if isinstance(trainer.visualize, str) else trainer.visualize
        record: Writer = JsonlWriter(self._run.metrics_path, self._writer_state)
        provided = {
            "run_name": self._run.name, "experiment": self._run.experiment, "log_dir": self._run.log_dir,
            "project": trainer.wandb_project or self._config.name, "config": self._config.raw,
            "state": dict(self._writer_state) or None, "mode": trainer.wandb_mode,
        }  # fmt: skip
        backends = [WRITERS.build({"type": name}, **provided) for name in names if name != "none"]
        return MultiWriter([record, *map(BackgroundWriter, backends)])

    def _decoders(self, writer: Writer) -> tuple[dict[str, CTCDecoder], PredictionLogger | NoPredictions]:
        """Return the decoders that metrics and logs need, and what logs predictions where a writer shows them."""
        config, trainer, encoder = self._config, self._config.trainer, self.network.text_encoder
        specs = components.decoder_specs(config, encoder, trainer.beam_size)
        shown = trainer.visualize not in ("none", [], ["none"]) and "beam_search" in specs
        metrics = components.build_metrics(config)
        specs.setdefault("argmax", {"type": "argmax"})  # the log needs it, whatever the config decodes with
        names = {"argmax", *(["beam_search"] if shown else []), *(metric.decoder for metric in metrics)}
        decoders = components.build_decoders(specs, encoder, sorted(names))
        if not shown:
            return decoders, NoPredictions()
        return decoders, PredictionLogger(writer, encoder, decoders, trainer.log_predictions, config.preprocessing.sr)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take over everything a checkpoint holds. Raises CheckpointError when it holds weights only."""
        source = self._run.model_dir if self._run is not None else Path("checkpoint")
        if state.get("format") != 1:
            raise CheckpointError(
                f"{source}: this checkpoint was written by another program and cannot be continued; fine-tune from it: "
                "train.py -c config.json -r CHECKPOINT"
            )
        self._average.load_state_dict(state, source)
        self._optimizer.load_state_dict(_on_this_device(state["optimizer"], self._optimizer))
        if self._scheduler is not None and state["lr_scheduler"] is not None:
            self._scheduler.load_state_dict(dict(state["lr_scheduler"]))
        if state["scaler"]:  # empty if the run has not used fp16 until now
            self._step.scaler.load_state_dict(state["scaler"])
        self.progress.load_state_dict(state["progress"])
        self.progress.share_among(self._processes.size, whole_passes=self._config.trainer.len_epoch is None)
        apply_changes(self._config, state.get("config"), self._optimizer, self.progress)

    def _num_frames(self, seconds: float) -> int:
        """Return how many frames the model gives for a recording."""
        num_samples = torch.tensor([int(seconds * self._config.preprocessing.sr)])
        frames = self.network.front_end.num_frames(num_samples)
        return int(self.network.model.transform_input_lengths(frames))  # type: ignore[operator]

    def _training_stream(self) -> BatchStream:
        dataset, sampler = self._training_data()
        logger.info(
            "train: %d batches, padding %.0f %%",
            len(sampler),
            100 * padding_share(dataset.durations.tolist(), list(sampler)),
        )
        num_workers = self._config.data["train"].num_workers
        loader = make_loader(dataset, sampler, num_workers, pin_memory=self._processes.device.type == "cuda")
        return BatchStream(loader, sampler, self.progress)

    def _training_data(self) -> tuple[SpeechDataset, BatchSampler]:
        config, split = self._config, self._config.data["train"]
        dataset = load_split(config, "train", self.network.text_encoder, self._num_frames)
        seed = config.trainer.seed
        return dataset, make_sampler(split, dataset, training=True, seed=seed, processes=self._processes)

    def _evaluators(self, decoders: Mapping[str, Any]) -> Iterator[Evaluator]:
        for name, split in self._config.data.items():
            if name == "train":
                continue
            dataset = load_split(self._config, name, self.network.text_encoder)
            sampler = make_sampler(split, dataset, training=False, seed=0, processes=self._processes)
            pin = self._processes.device.type == "cuda"
            yield Evaluator(
                name,
                make_loader(dataset, sampler, split.num_workers, pin_memory=pin),
                self.network.front_end,
                components.build_loss(self._config),
                components.build_metrics(self._config),
                decoders,
                self._processes,
                self._config.trainer.precision,
            )


def _on_this_device(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's state with the implementation (fused or not) that this run's device has chosen."""
    groups = []
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=False):
        groups.append({**saved, **{name: own[name] for name in ("fused", "foreach") if name in own}})
    return {**state, "param_groups": groups}


def _per_epoch(setting: str | None, scheduler: Any | None) -> bool:
    if setting is not None:
        return setting == "epoch"
    return isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def _check_schedule(scheduler: Any | None, settings: TrainerSettings) -> None:
    """Raise ConfigError when the run takes more steps than a schedule of fixed length (OneCycleLR) has."""
    length = getattr(scheduler, "total_steps", None)
    steps = settings.epochs * (1 if settings.scheduler_per_epoch else settings.steps_per_epoch)
    if length is not None and steps > length:
        raise ConfigError(
            [f"lr_scheduler.args.total_steps: {length}, but the run takes {steps} steps; set it to {steps}"]
        )
