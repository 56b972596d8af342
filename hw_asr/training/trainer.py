"""The training loop. Saving, logging and evaluation are done by collaborators."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tqdm import tqdm

from hw_asr.errors import UserError
from hw_asr.metrics import SplitMetric
from hw_asr.runtime.processes import Processes
from hw_asr.training import progress_lines
from hw_asr.training.evaluation import Evaluator
from hw_asr.training.learner import Learner
from hw_asr.training.monitor import Monitor
from hw_asr.training.snapshots import Snapshots
from hw_asr.training.step_log import StepLog
from hw_asr.training.step_result import OUT_OF_MEMORY, SCALE_LOWERED
from hw_asr.training.stop import StopRequest
from hw_asr.training.stream import BatchStream, Placed

logger = logging.getLogger(__name__)


class TrainingFailedError(UserError):
    """Training that cannot continue."""


@dataclass(frozen=True)
class TrainerSettings:
    """Length and limits of a run; see `trainer` in the config."""

    epochs: int
    batches_per_epoch: int
    accumulate_grad_steps: int
    monitor: Monitor | None
    early_stop: int | None
    max_bad_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps between two evaluations."""
        return -(-self.batches_per_epoch // self.accumulate_grad_steps)


class Output(NamedTuple):
    """Where a run's results go; `snapshots` is None on a process that writes nothing."""

    snapshots: Snapshots | None
    log: StepLog


class Trainer:
    """Trains until all epochs are done, the monitored value stops improving, or a signal asks to stop."""

    def __init__(
        self,
        settings: TrainerSettings,
        learner: Learner,
        stream: BatchStream,
        evaluators: Sequence[Evaluator],
        output: Output,
        processes: Processes,
    ) -> None:
        self._settings = settings
        self._learner = learner
        self._stream = stream
        self._evaluators = evaluators
        self._snapshots, self._step_log = output
        self._processes = processes
        self.progress = learner.progress
        self._stop = StopRequest(announce=processes.is_main)
        self._started = (time.perf_counter(), self._batches_done())

    def fit(self) -> int:
        """Train to the end; return 0, or 130 or 143 when a signal ended the run after it was saved."""
        if self.progress.epoch > self._settings.epochs:
            logger.warning("nothing to do: all %d epochs of trainer.epochs are done", self._settings.epochs)
            return 0
        with self._stop.listening():
            while self.progress.epoch <= self._settings.epochs:
                if self._early_stopped():
                    logger.info("stopped: no improvement in %d evaluations", self.progress.epochs_without_improvement)
                    break
                if not (self._train_epoch() and self._finish_epoch()):
                    self._save_to_resume()
                    return self._stop.exit_code
        self._log_overhead(time.perf_counter() - self._started[0])
        return 0

    def _train_epoch(self) -> bool:
        """Train for the rest of the epoch; return False when asked to stop before its end."""
        progress, snapshots = self.progress, self._snapshots
        steps = self._settings.steps_per_epoch
        self._learner.step.freezing.begin_epoch(progress.epoch)
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
                result = self._learner.step.run(group)
                self._learner.account(group, result)
                self._check(result.problem)
                self._step_log.step(self._learner, result, self._position())
                if snapshots is not None and snapshots.due(progress.step):
                    snapshots.write_last()
                bar.update()
        return True

    def _take(self) -> list[Placed]:
        """Return the batches of the next step; save the run before an error of the data ends it."""
        settings = self._settings
        left = settings.batches_per_epoch - self.progress.step_in_epoch * settings.accumulate_grad_steps
        try:
            return self._stream.take(min(settings.accumulate_grad_steps, left))
        except UserError:
            self._save_to_resume()
            raise

    def _check(self, problem: str | None) -> None:
        """Log a step that was skipped; raise TrainingFailedError after too many in a row."""
        if problem is None:
            return
        step, in_row = self.progress.step, self.progress.bad_steps_in_row
        level = logging.DEBUG if problem == SCALE_LOWERED else logging.WARNING
        logger.log(level, "step %d skipped: %s (%d in a row)", step, problem, in_row)
        if in_row >= self._settings.max_bad_steps:
            raise TrainingFailedError(_diagnosis(problem, in_row))

    def _finish_epoch(self) -> bool:
        """Evaluate, log, decide whether this epoch is the best, save; return False when asked to stop before."""
        progress, monitor = self.progress, self._settings.monitor
        results = self._evaluate()
        if results is None:
            return False
        values = {
            SplitMetric(split, name).key: value for split, scores in results.items() for name, value in scores.items()
        }
        self._learner.schedule.after_epoch(values[monitor.key] if monitor else None)
        best = progress.judge(monitor, values)
        self._step_log.writer.scalars(progress.step, {"epoch": progress.epoch, **values, **self._counters()})
        if results:
            logger.info(progress_lines.epoch_table(progress.epoch, results, monitor.key if monitor else None, best))
        finished, progress.epoch, progress.step_in_epoch = progress.epoch, progress.epoch + 1, 0
        if self._snapshots is not None:
            self._snapshots.write_epoch(finished, best=best)
        return True

    def _evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return the values of every split by their names; None when asked to stop."""
        results = {}
        alone = self._processes.size == 1
        for evaluator in self._evaluators:
            result = evaluator.run(self._learner.average.evaluated, lambda: alone and bool(self._stop))
            if result is None or self._stop_agreed():
                return None
            results[evaluator.split] = result.values
            for failure in result.failures:
                logger.warning("%s: skipped %s: %s", evaluator.split, failure.utterance.audio_path, failure.reason)
        return results

    def _save_to_resume(self) -> None:
        if self._snapshots is not None:
            self._snapshots.write_last()
            logger.warning("saved; to continue: python train.py -r %s", self._snapshots.last_path)

    def _log_overhead(self, seconds: float) -> None:
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
        """Return how much was skipped so far, by reason; recordings over all processes, which all get to know them."""
        self.progress.failed = self._processes.union(self.progress.failed)
        counts = {"recordings skipped": len(self.progress.failed), **self.progress.counts}
        return {name: count for name, count in counts.items() if count}

    def _batches_done(self) -> int:
        in_epoch = self.progress.step_in_epoch * self._settings.accumulate_grad_steps
        return (self.progress.epoch - 1) * self._settings.batches_per_epoch + in_epoch

    def _position(self) -> progress_lines.Position:
        settings, (start, before) = self._settings, self._started
        done = self._batches_done()
        per_batch = (time.perf_counter() - start) / max(1, done - before)
        in_epoch = self.progress.step_in_epoch / settings.steps_per_epoch
        left = per_batch * max(0, settings.epochs * settings.batches_per_epoch - done)
        return progress_lines.Position(self.progress.epoch, settings.epochs, min(1.0, in_epoch), left)


def _diagnosis(problem: str, steps: int) -> str:
    if problem == OUT_OF_MEMORY:
        remedy = "lower data.train.batch_size or max_audio_length, or use a batch sampler with max_seconds"
    else:
        remedy = "lower optimizer.args.lr, set trainer.grad_norm_clip, or use precision fp32 or bf16"
    return f"{steps} steps in a row were skipped ({problem}); {remedy}, then continue with -r from the last checkpoint"
