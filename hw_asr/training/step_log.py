"""The log of training steps: numbers, predictions, histograms, a line on the terminal."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from hw_asr.features import length_mask
from hw_asr.metrics import text_errors
from hw_asr.training.learner import Learner
from hw_asr.training.prediction_log import NoPredictions, PredictionLogger
from hw_asr.training.progress_lines import Position, step_line
from hw_asr.training.step_result import StepResult
from hw_asr.types import CTCDecoder, best_text
from hw_asr.writers.base import Writer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepLogSettings:
    """When and what to log; see `trainer` in the config. The first of `num_processes` logs for all of them."""

    period: int
    histograms: bool
    sample_rate: int
    num_processes: int = 1
    at_epoch_end: bool = False
    """Log the last step of every epoch as well; for epochs shorter than `period`, which might have no line at all."""


class StepLog:
    """Every `period` steps logs means over the steps since the last time, from the sums in `progress.window`."""

    def __init__(
        self,
        writer: Writer,
        predictions: PredictionLogger | NoPredictions,
        argmax: CTCDecoder,
        settings: StepLogSettings,
    ) -> None:
        self.writer = writer
        self._predictions = predictions
        self._argmax = argmax
        self._settings = settings
        self._clock = time.perf_counter()
        self.seconds = 0.0
        """Time spent in logging."""

    def restart_clock(self) -> None:
        """Exclude the time until now from the throughput."""
        self._clock = time.perf_counter()

    def step(self, learner: Learner, result: StepResult, position: Position) -> None:
        """Log a finished step when it is due."""
        progress = learner.progress
        is_last = self._settings.at_epoch_end and position.done >= 1
        if progress.step % self._settings.period and not is_last:
            return
        start = time.perf_counter()
        window, progress.window = progress.window, {}
        seconds = start - self._clock
        if window:
            speech = window["samples"] * self._settings.num_processes / self._settings.sample_rate
            values = {
                "loss": window["loss"] / max(1.0, window["utterances"]),
                "grad_norm": window["grad_norm"] / window["steps"],
                "learning_rate": float(learner.step.optimizer.param_groups[0]["lr"]),
                "audio_seconds_per_second": speech / seconds,
                "padding_share": 1 - window["samples"] / max(1.0, window["padded"]),
                **self._batch_values(result),
            }
            self.writer.scalars(progress.step, {f"train_{name}": value for name, value in values.items()})
            if result.batch is not None and result.outputs is not None:
                self._predictions.log(progress.step, result.batch, result.outputs)
            for name, parameter in learner.step.model.named_parameters() if self._settings.histograms else ():
                self.writer.histogram(progress.step, name, parameter.detach())
            logger.debug(step_line(position, progress.step, values))
        self._clock = time.perf_counter()
        self.seconds += self._clock - start

    def _batch_values(self, result: StepResult) -> dict[str, float]:
        """Blank rate and argmax error rates of the step's last batch."""
        if result.batch is None or result.outputs is None:
            return {}
        log_probs, lengths = result.outputs.log_probs.detach().cpu(), result.outputs.lengths
        inside = length_mask(lengths, log_probs.shape[1])
        blank = (log_probs.argmax(dim=-1) == 0) & inside
        texts = [best_text(hypotheses) for hypotheses in self._argmax(log_probs, lengths)]
        pairs = zip(result.batch.utterances, texts, strict=True)
        errors = [text_errors(utterance.text or "", text) for utterance, text in pairs]
        return {
            "blank_rate": float(blank.sum() / inside.sum().clamp(min=1)),
            "WER (argmax)": sum(counts.words.rate for counts in errors) / len(errors),
            "CER (argmax)": sum(counts.characters.rate for counts in errors) / len(errors),
        }
