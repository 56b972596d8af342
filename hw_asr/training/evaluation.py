"""Running a model over a split: log-probabilities, loss and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from tqdm import tqdm

from hw_asr.batch import Batch, Failure
from hw_asr.errors import UserError
from hw_asr.features import FrontEnd
from hw_asr.models.forward import Emissions, emissions
from hw_asr.runtime.processes import Processes
from hw_asr.types import CTCDecoder, Metric, best_text


class DivergedError(UserError):
    """A model whose outputs are not numbers."""


@dataclass(frozen=True)
class SplitResult:
    """The result of an evaluation: `loss` and the metrics by name, and the recordings that could not be decoded."""

    values: dict[str, float]
    failures: list[Failure]


@dataclass(frozen=True)
class Scoring:
    """How outputs are scored. Of the decoders, by name, only those run that a metric asks for."""

    loss: nn.Module
    metrics: Sequence[Metric]
    decoders: Mapping[str, CTCDecoder]


class Evaluator:
    """Scores a model on one split."""

    def __init__(
        self,
        split: str,
        loader: Iterable[Batch],
        front_end: FrontEnd,
        scoring: Scoring,
        processes: Processes,
        precision: str = "fp32",
    ) -> None:
        self.split = split
        self._loader = loader
        self._front_end = front_end
        self._scoring = scoring
        needed = {metric.decoder for metric in scoring.metrics}
        self._decoders = {name: decoder for name, decoder in scoring.decoders.items() if name in needed}
        self._processes = processes
        self._precision = precision

    def run(self, model: nn.Module, interrupted: Callable[[], bool] = lambda: False) -> SplitResult | None:
        """Evaluate. Every process takes its share, and the sums are exact whatever the share.

        Returns None as soon as `interrupted` returns true; with several processes it must be the same on all of them.
        Raises DivergedError when the model's outputs are NaN.
        """
        for metric in self._scoring.metrics:
            metric.reset()
        loss_sum, count = 0.0, 0
        failures: list[Failure] = []
        main = self._processes.is_main
        bar = tqdm(self._loader, desc=self.split, leave=False, disable=None if main else True, unit="batch")
        for emission in emissions(model, self._front_end, bar, self._processes.device, self._precision):
            if interrupted():
                return None
            batch = emission.batch
            failures += batch.failures
            if len(batch) == 0:
                continue
            values = self._scoring.loss(emission.log_probs, emission.lengths, batch.targets, batch.target_lengths)
            loss_sum += float(values.values.sum())
            count += len(batch) - int(values.infeasible.sum())
            self._score(emission)
        loss_sum, total = self._processes.sum([loss_sum, count])
        result = {"loss": loss_sum / total if total else float("nan")}
        for metric in self._scoring.metrics:
            metric.totals = self._processes.sum(metric.totals)
            result.update(metric.compute())
        return SplitResult(result, failures)

    def _score(self, emission: Emissions) -> None:
        log_probs, lengths = emission.log_probs.cpu(), emission.lengths
        if log_probs.isnan().any():
            raise DivergedError(
                f"{self.split}: the model's outputs are not numbers (NaN): training has diverged; lower "
                "optimizer.args.lr (--lr) or set trainer.grad_norm_clip, and start again, or continue from an earlier "
                "checkpoint with -r"
            )
        texts = {
            name: [best_text(hypotheses) for hypotheses in decode(log_probs, lengths)]
            for name, decode in self._decoders.items()
        }
        for index, utterance in enumerate(emission.batch.utterances):
            hypotheses = {name: decoded[index] for name, decoded in texts.items()}
            for metric in self._scoring.metrics:
                metric.update(utterance.text or "", hypotheses)
