"""The training loop; what it saves, logs and watches is done by collaborators."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.metrics import char_errors, word_errors
from hw_asr.monitor import Monitor
from hw_asr.processes import Processes
from hw_asr.training import console
from hw_asr.training.evaluation import Evaluator, best_text
from hw_asr.training.media import NoPredictions, PredictionLogger
from hw_asr.training.progress import Progress
from hw_asr.training.snapshots import Snapshots, StopRequest
from hw_asr.training.step import StepResult, TrainingStep
from hw_asr.training.stream import BatchStream, Placed
from hw_asr.types import CTCDecoder
from hw_asr.writers.base import Writer

logger = logging.getLogger(__name__)


class TrainingFailedError(UserError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class TrainerSettings:
    """How long and how often; see `trainer` in the config."""

    epochs: int
    batches_per_epoch: int
    accumulate_grad_steps: int
    log_step: int
    monitor: Monitor | None
    early_stop: int | None
    max_bad_steps: int
    scheduler_per_epoch: bool
    log_histograms: bool
    sample_rate: int


class Trainer:
    """Trains `step.model` until the epochs are over, nothing improves any more, or somebody asks to stop.

    `state_of` returns the checkpoint of this moment (model, optimiser, schedule, progress, ...).
    """

    def __init__(
        self,
        settings: TrainerSettings,
        step: TrainingStep,
        stream: BatchStream,
        scheduler: Any | None,
        evaluators: Sequence[Evaluator],
        evaluated_model: Callable[[], nn.Module],
        after_step: Callable[[], None],
        argmax: CTCDecoder,
        progress: Progress,
        snapshots: Snapshots | None,
        state_of: Callable[[], dict[str, Any]],
        writer: Writer,
        predictions: PredictionLogger | NoPredictions,
        processes: Processes,
    ) -> None:
        self._settings = settings
        self._step = step
        self._stream = stream
        self._scheduler = scheduler
        self._evaluators = evaluators
        self._evaluated_model = evaluated_model
        self._after_step = after_step
        self._argmax = argmax
        self.progress = progress
        self._snapshots = snapshots
        self._state_of = state_of
        self._writer = writer
        self._predictions = predictions
        self._processes = processes
        self._stop = StopRequest()
        self._clock = time.perf_counter()
        self._started = (time.perf_counter(), self._batches_done())

    def fit(self) -> int:
        """Train to the end; return 0, or 130 or 143 when a signal ended it after saving."""
        with self._stop.listening():
            while self.progress.epoch <= self._settings.epochs:
                if self._early_stopped():
                    logger.info("stopped: no improvement in %d evaluations", self.progress.epochs_without_improvement)
                    break
                self._train_epoch()
                if self._stop_agreed():
                    self._save_last()
                    return self._stop.exit_code or 143
                self._finish_epoch()
        return 0

    def _train_epoch(self) -> None:
        settings, progress = self._settings, self.progress
        steps = -(-settings.batches_per_epoch // settings.accumulate_grad_steps)
        bar = tqdm(
            total=steps, initial=progress.step_in_epoch, desc=f"epoch {progress.epoch}", unit="step", leave=False,
            disable=None if self._processes.is_main else True,
        )  # fmt: skip
        with bar:
            while progress.step_in_epoch < steps:
                if self._stop_agreed():
                    return
                left = settings.batches_per_epoch - progress.step_in_epoch * settings.accumulate_grad_steps
                group = self._stream.take(min(settings.accumulate_grad_steps, left))
                result = self._step.run(group)
                self._account(group, result)
                if progress.step % settings.log_step == 0:
                    self._log(result)
                if self._snapshots is not None and self._snapshots.due:
                    self._save_last()
                bar.update()

    def _account(self, group: Sequence[Placed], result: StepResult) -> None:
        """Advance schedule and progress, and stop when too many steps in a row came to nothing."""
        progress = self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        for failure in (failure for placed in group for failure in placed.batch.failures):
            name = str(failure.utterance.audio_path)
            if name not in progress.failed:
                logger.warning("skipped %s: %s", name, failure.reason)
            progress.failed[name] = failure.reason
        progress.count("utterances without a CTC path", result.num_infeasible)
        if result.problem is None:
            progress.bad_steps_in_row = 0
            samples = [int(placed.batch.sample_lengths.sum()) for placed in group]
            padded = [placed.batch.samples.numel() for placed in group]
            progress.add(
                loss=result.loss_sum, utterances=result.num_utterances, grad_norm=result.grad_norm, steps=1,
                samples=sum(samples), padded=sum(padded),
            )  # fmt: skip
            if self._scheduler is not None and not self._settings.scheduler_per_epoch:
                self._scheduler.step()
            self._after_step()
            return
        progress.count(f"steps skipped: {result.problem}")
        progress.bad_steps_in_row += 1
        logger.warning("step %d skipped: %s (%d in a row)", progress.step, result.problem, progress.bad_steps_in_row)
        if progress.bad_steps_in_row >= self._settings.max_bad_steps:
            raise TrainingFailedError(_diagnosis(result.problem, progress.bad_steps_in_row))

    def _log(self, result: StepResult) -> None:
        window, self.progress.window = self.progress.window, {}
        now, before = time.perf_counter(), self._clock
        self._clock = now
        if not window or not self._processes.is_main:
            return
        rate = self._settings.sample_rate * (now - before)
        values = {
            "loss": window["loss"] / max(1.0, window["utterances"]),
            "grad_norm": window["grad_norm"] / window["steps"],
            "learning_rate": float(self._step.optimizer.param_groups[0]["lr"]),
            "audio_seconds_per_second": window["samples"] * self._processes.size / rate,
            "padding_share": 1 - window["samples"] / max(1.0, window["padded"]),
        }
        if result.batch is not None and result.outputs is not None:
            values |= self._batch_values(result)
            self._predictions.log(self.progress.step, result.batch, result.outputs)
        self._writer.scalars(self.progress.step, {f"train_{name}": value for name, value in values.items()})
        if self._settings.log_histograms:
            for name, parameter in self._step.model.named_parameters():
                self._writer.histogram(self.progress.step, name, parameter.detach())
        epoch, epochs = self.progress.epoch, self._settings.epochs
        done = self.progress.step_in_epoch * self._settings.accumulate_grad_steps / self._settings.batches_per_epoch
        logger.debug(console.step_line(epoch, epochs, self.progress.step, min(1.0, done), values, self._seconds_left()))

    def _batch_values(self, result: StepResult) -> dict[str, float]:
        """Blank rate and argmax error rates of the step's last batch."""
        assert result.batch is not None and result.outputs is not None
        log_probs, lengths = result.outputs.log_probs.detach().cpu(), result.outputs.lengths.cpu()
        inside = torch.arange(log_probs.shape[1]) < lengths[:, None]
        blank = (log_probs.argmax(dim=-1) == 0) & inside
        texts = [best_text(each) for each in self._argmax(log_probs, lengths)]
        pairs = [(utterance.text or "", text) for utterance, text in zip(result.batch.utterances, texts, strict=True)]
        return {
            "blank_rate": float(blank.sum() / inside.sum().clamp(min=1)),
            "WER (argmax)": sum(word_errors(*pair).rate for pair in pairs) / len(pairs),
            "CER (argmax)": sum(char_errors(*pair).rate for pair in pairs) / len(pairs),
        }

    def _finish_epoch(self) -> None:
        """Evaluate every split, log, decide what is best, save."""
        model, progress, monitor = self._evaluated_model(), self.progress, self._settings.monitor
        results = {}
        for evaluator in self._evaluators:
            result = evaluator.run(model)
            results[evaluator.split] = result.values
            for failure in result.failures:
                logger.warning("%s: skipped %s: %s", evaluator.split, failure.utterance.audio_path, failure.reason)
        values = {f"{split}_{name}": value for split, each in results.items() for name, value in each.items()}
        if self._scheduler is not None and self._settings.scheduler_per_epoch:
            needs_value = isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            self._scheduler.step(*([values[monitor.key]] if needs_value and monitor else []))
        best = monitor is not None and monitor.improved(values, progress.best)
        if best and monitor is not None:
            progress.best, progress.epochs_without_improvement = values[monitor.key], 0
        else:
            progress.epochs_without_improvement += 1
        self._writer.scalars(progress.step, {"epoch": progress.epoch, **values, **_counters(progress)})
        if results:
            logger.info(console.epoch_table(progress.epoch, results, monitor.key if monitor else None, best))
        finished, progress.epoch, progress.step_in_epoch = progress.epoch, progress.epoch + 1, 0
        if self._snapshots is not None:
            self._snapshots.write_epoch(self._state_of(), finished, best=best)
        self._clock = time.perf_counter()

    def _save_last(self) -> None:
        if self._snapshots is not None:
            path = self._snapshots.write_last(self._state_of())
            if self._stop:
                logger.warning("saved; go on with: python train.py -r %s", path)

    def _stop_agreed(self) -> bool:
        return self._processes.sum([float(bool(self._stop))])[0] > 0

    def _early_stopped(self) -> bool:
        limit = self._settings.early_stop
        return limit is not None and self.progress.epochs_without_improvement >= limit

    def _batches_done(self) -> int:
        in_epoch = self.progress.step_in_epoch * self._settings.accumulate_grad_steps
        return (self.progress.epoch - 1) * self._settings.batches_per_epoch + in_epoch

    def _seconds_left(self) -> float:
        start, before = self._started
        done = self._batches_done()
        return (time.perf_counter() - start) / max(1, done - before) * (
            self._settings.epochs * self._settings.batches_per_epoch - done
        )  # fmt: skip


def _counters(progress: Progress) -> dict[str, float]:
    counts = {"recordings skipped": len(progress.failed), **progress.counts}
    return {name: count for name, count in counts.items() if count}


def _diagnosis(problem: str | None, steps: int) -> str:
    if problem == "out of memory":
        remedy = "lower data.train.batch_size or max_audio_length, or use a batch sampler with max_seconds"
    else:
        remedy = "lower optimizer.args.lr, set trainer.grad_norm_clip, or use precision fp32 or bf16"
    return f"{steps} steps in a row were skipped ({problem}); {remedy}, then go on with -r from the last checkpoint"
