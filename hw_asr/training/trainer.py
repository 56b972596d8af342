"""The training loop; what it saves, logs and watches is done by collaborators."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.metrics import SplitMetric
from hw_asr.runtime.processes import Processes
from hw_asr.training import progress_lines
from hw_asr.training.average import WeightAverage
from hw_asr.training.evaluation import Evaluator
from hw_asr.training.monitor import Monitor
from hw_asr.training.progress import Progress
from hw_asr.training.snapshots import Snapshots
from hw_asr.training.step import OUT_OF_MEMORY, SCALE_LOWERED, StepResult, TrainingStep
from hw_asr.training.step_log import StepLog
from hw_asr.training.stop import StopRequest
from hw_asr.training.stream import BatchStream, Placed

logger = logging.getLogger(__name__)


class TrainingFailedError(UserError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class TrainerSettings:
    """How long and how often; see `trainer` in the config."""

    epochs: int
    batches_per_epoch: int
    accumulate_grad_steps: int
    monitor: Monitor | None
    early_stop: int | None
    max_bad_steps: int
    scheduler_per_epoch: bool

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps between two evaluations."""
        return -(-self.batches_per_epoch // self.accumulate_grad_steps)


class Trainer:
    """Trains `step.model` until the epochs are over, nothing improves any more, or somebody asks to stop.

    `average` is what is evaluated; `snapshots` is None on a process that writes nothing.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        step: TrainingStep,
        stream: BatchStream,
        scheduler: Any | None,
        average: WeightAverage,
        evaluators: Sequence[Evaluator],
        progress: Progress,
        snapshots: Snapshots | None,
        log: StepLog,
        processes: Processes,
    ) -> None:
        self._settings = settings
        self._step = step
        self._stream = stream
        self._scheduler = scheduler
        self._average = average
        self._evaluators = evaluators
        self.progress = progress
        self._snapshots = snapshots
        self._step_log = log
        self._processes = processes
        self._stop = StopRequest(speaks=processes.is_main)
        self._started = (time.perf_counter(), self._batches_done())

    def fit(self) -> int:
        """Train to the end; return 0, or 130 or 143 when a signal ended it after saving."""
        started = time.perf_counter()
        if self.progress.epoch > self._settings.epochs:
            logger.warning("nothing to do: all %d epochs of trainer.epochs are done", self._settings.epochs)
            return 0
        with self._stop.listening():
            while self.progress.epoch <= self._settings.epochs:
                if self._early_stopped():
                    logger.info("stopped: no improvement in %d evaluations", self.progress.epochs_without_improvement)
                    break
                if not (self._train_epoch() and self._finish_epoch()):
                    self._save_last()
                    self._say_how_to_resume()
                    return self._stop.exit_code
        self._say_what_took_time(time.perf_counter() - started)
        return 0

    def _train_epoch(self) -> bool:
        """Take the steps that the epoch has left; return False when asked to stop before its end."""
        progress, snapshots = self.progress, self._snapshots
        steps = self._settings.steps_per_epoch
        self._step_log.restart_clock()
        bar = tqdm(
            total=steps, initial=progress.step_in_epoch, desc=f"epoch {progress.epoch}", unit="step", leave=False,
            disable=None if self._processes.is_main else True,
        )  # fmt: skip
        with bar:
            while progress.step_in_epoch < steps:
                if self._stop_agreed():
                    return False
                group = self._take()
                result = self._step.run(group)
                self._account(group, result)
                learning_rate = float(self._step.optimizer.param_groups[0]["lr"])
                self._step_log.step(progress, result, self._step.model, learning_rate, self._place())
                if snapshots is not None and snapshots.due(progress.step):
                    snapshots.write_last()
                bar.update()
        return True

    def _take(self) -> list[Placed]:
        """Return the batches of the next step. Between steps a run can always be saved: so when data gives out, too."""
        settings = self._settings
        left = settings.batches_per_epoch - self.progress.step_in_epoch * settings.accumulate_grad_steps
        try:
            return self._stream.take(min(settings.accumulate_grad_steps, left))
        except UserError:
            self._save_last()
            self._say_how_to_resume()
            raise

    def _account(self, group: Sequence[Placed], result: StepResult) -> None:
        """Advance schedule and progress, and stop when too many steps in a row came to nothing."""
        progress = self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        for failure in (failure for placed in group for failure in placed.batch.failures):
            name = failure.utterance.audio_path
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
            self._average.update()
            return
        progress.count(f"steps skipped: {result.problem}")
        progress.bad_steps_in_row += 1
        level = logging.DEBUG if result.problem == SCALE_LOWERED else logging.WARNING
        logger.log(level, "step %d skipped: %s (%d in a row)", progress.step, result.problem, progress.bad_steps_in_row)
        if progress.bad_steps_in_row >= self._settings.max_bad_steps:
            raise TrainingFailedError(_diagnosis(result.problem, progress.bad_steps_in_row))

    def _finish_epoch(self) -> bool:
        """Evaluate every split, log, decide what is best, save; return False when asked to stop before."""
        progress, monitor = self.progress, self._settings.monitor
        results = {}
        alone = self._processes.size == 1
        for evaluator in self._evaluators:
            result = evaluator.run(self._average.evaluated, lambda: alone and bool(self._stop))
            if result is None or self._stop_agreed():
                return False
            results[evaluator.split] = result.values
            for failure in result.failures:
                logger.warning("%s: skipped %s: %s", evaluator.split, failure.utterance.audio_path, failure.reason)
        values = {
            SplitMetric(split, name).key: value for split, scores in results.items() for name, value in scores.items()
        }
        if self._scheduler is not None and self._settings.scheduler_per_epoch:
            needs_value = isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            self._scheduler.step(*([values[monitor.key]] if needs_value and monitor else []))
        best = monitor is not None and monitor.improved(values, progress.best)
        if best and monitor is not None:
            progress.best, progress.epochs_without_improvement = values[monitor.key], 0
        else:
            progress.epochs_without_improvement += 1
        self._step_log.writer.scalars(progress.step, {"epoch": progress.epoch, **values, **self._counters()})
        if results:
            logger.info(progress_lines.epoch_table(progress.epoch, results, monitor.key if monitor else None, best))
        finished, progress.epoch, progress.step_in_epoch = progress.epoch, progress.epoch + 1, 0
        if self._snapshots is not None:
            self._snapshots.write_epoch(finished, best=best)
        return True

    def _save_last(self) -> None:
        if self._snapshots is not None:
            self._snapshots.write_last()

    def _say_how_to_resume(self) -> None:
        if self._snapshots is not None:
            logger.warning("saved; go on with: python train.py -r %s", self._snapshots.last_path)

    def _say_what_took_time(self, seconds: float) -> None:
        if self._snapshots is not None:
            saving, logging_ = self._snapshots.seconds, self._step_log.seconds
            logger.info(
                "done in %.0f s, of which writing checkpoints took %.1f %% and logging %.1f %%",
                seconds, 100 * saving / seconds, 100 * logging_ / seconds,
            )  # fmt: skip

    def _stop_agreed(self) -> bool:
        return self._processes.sum([float(bool(self._stop))])[0] > 0

    def _early_stopped(self) -> bool:
        limit = self._settings.early_stop
        return limit is not None and self.progress.epochs_without_improvement >= limit

    def _counters(self) -> dict[str, float]:
        """Return what was skipped so far, by reason; recordings over all processes."""
        failed = self._processes.sum([len(self.progress.failed)])[0]
        counts = {"recordings skipped": failed, **self.progress.counts}
        return {name: count for name, count in counts.items() if count}

    def _batches_done(self) -> int:
        in_epoch = self.progress.step_in_epoch * self._settings.accumulate_grad_steps
        return (self.progress.epoch - 1) * self._settings.batches_per_epoch + in_epoch

    def _place(self) -> progress_lines.Place:
        settings, (start, before) = self._settings, self._started
        done = self._batches_done()
        per_batch = (time.perf_counter() - start) / max(1, done - before)
        in_epoch = self.progress.step_in_epoch / settings.steps_per_epoch
        left = per_batch * max(0, settings.epochs * settings.batches_per_epoch - done)
        return progress_lines.Place(self.progress.epoch, settings.epochs, min(1.0, in_epoch), left)


def _diagnosis(problem: str | None, steps: int) -> str:
    if problem == OUT_OF_MEMORY:
        remedy = "lower data.train.batch_size or max_audio_length, or use a batch sampler with max_seconds"
    else:
        remedy = "lower optimizer.args.lr, set trainer.grad_norm_clip, or use precision fp32 or bf16"
    return f"{steps} steps in a row were skipped ({problem}); {remedy}, then go on with -r from the last checkpoint"
