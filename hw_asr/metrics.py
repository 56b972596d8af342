"""Error counts, error rates and the metrics a config can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from hw_asr.config.registry import METRICS


class ErrorCounts(NamedTuple):
    """Edits of a minimal alignment between one reference and one hypothesis."""

    substitutions: int
    deletions: int
    insertions: int
    length: int
    """Words or characters in the reference."""

    @property
    def edits(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per reference token; 1.0 for an empty reference (the published definition)."""
        return self.edits / self.length if self.length else 1.0


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count word edits; words are what white space separates."""
    return _errors(reference.split(), hypothesis.split())


def char_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count character edits, spaces included."""
    return _errors(reference, hypothesis)


def _errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    counts = {"replace": 0, "delete": 0, "insert": 0}
    for operation in Levenshtein.editops(reference, hypothesis):
        counts[operation.tag] += 1
    return ErrorCounts(counts["replace"], counts["delete"], counts["insert"], len(reference))


class ErrorRate:
    """Sums of error counts; sums over batches and processes are exact.

    `totals` is the whole state: substitutions, deletions, insertions, reference length, utterances, sum of rates.
    """

    def __init__(self) -> None:
        self.totals = [0.0] * 6

    def add(self, counts: ErrorCounts) -> None:
        """Add one utterance."""
        values = (counts.substitutions, counts.deletions, counts.insertions, counts.length, 1, counts.rate)
        self.totals = [total + value for total, value in zip(self.totals, values, strict=True)]

    @property
    def num_utterances(self) -> int:
        """Utterances added."""
        return int(self.totals[4])

    @property
    def mean(self) -> float:
        """Mean of the utterances' rates (the published definition); NaN when nothing was added."""
        return self.totals[5] / self.totals[4] if self.totals[4] else float("nan")

    @property
    def corpus(self) -> float:
        """All edits over all reference tokens; NaN when nothing was added."""
        return ErrorCounts(*map(int, self.totals[:4])).rate if self.totals[4] else float("nan")


class ErrorRateMetric:
    """An error rate of one decoder's best text, logged as the per-utterance mean and, as `NAME corpus`, pooled."""

    def __init__(self, name: str, decoder: str, unit: Literal["word", "char"]) -> None:
        self.name = name
        self.decoder = decoder
        self._errors = word_errors if unit == "word" else char_errors
        self.reset()

    def reset(self) -> None:
        """Forget what was added."""
        self.rate = ErrorRate()

    def update(self, reference: str, hypotheses: Mapping[str, str]) -> None:
        """Add one utterance: its normalised reference and the best text of each decoder by its name."""
        self.rate.add(self._errors(reference, hypotheses[self.decoder]))

    def compute(self) -> dict[str, float]:
        """Return the values by the names they are logged and monitored under."""
        return {self.name: self.rate.mean, f"{self.name} corpus": self.rate.corpus}

    def names(self) -> list[str]:
        """Return the keys of `compute`."""
        return [self.name, f"{self.name} corpus"]


@METRICS.register()
class ArgmaxWERMetric(ErrorRateMetric):
    """Word error rate of the argmax text."""

    def __init__(self, name: str = "WER (argmax)") -> None:
        super().__init__(name, "argmax", "word")


@METRICS.register()
class ArgmaxCERMetric(ErrorRateMetric):
    """Character error rate of the argmax text."""

    def __init__(self, name: str = "CER (argmax)") -> None:
        super().__init__(name, "argmax", "char")


@METRICS.register()
class BeamSearchWERMetric(ErrorRateMetric):
    """Word error rate of a beam search's best text; `decoder` may be lm_beam_search."""

    def __init__(self, name: str = "WER (beam search)", decoder: str = "beam_search") -> None:
        super().__init__(name, decoder, "word")


@METRICS.register()
class BeamSearchCERMetric(ErrorRateMetric):
    """Character error rate of a beam search's best text; `decoder` may be lm_beam_search."""

    def __init__(self, name: str = "CER (beam search)", decoder: str = "beam_search") -> None:
        super().__init__(name, decoder, "char")
