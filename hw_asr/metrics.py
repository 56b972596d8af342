"""Error counts, error rates, the metrics a config can name, and the keys under which they are logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from rapidfuzz.distance import Levenshtein

from hw_asr.config.registry import METRICS

CORPUS = " corpus"
"""Suffix of the names of rates that are pooled over all utterances."""


class SplitMetric(NamedTuple):
    """A metric of one split of the data. Its key is what is logged, monitored and read back."""

    split: str
    metric: str
    """`loss`, or a name that a metric of the config gives."""

    @property
    def key(self) -> str:
        """SPLIT_METRIC."""
        return f"{self.split}_{self.metric}"

    @classmethod
    def parse(cls, key: str, splits: Iterable[str]) -> SplitMetric | None:
        """Read a key back, given the splits; None when it belongs to none. Names of splits may contain `_`."""
        matching = [split for split in splits if key.startswith(f"{split}_")]
        return cls(split := max(matching, key=len), key[len(split) + 1 :]) if matching else None


def is_error_rate(metric: str) -> bool:
    """Whether a metric of this name is an error rate (CER, WER, SER), which is shown in percent."""
    return "ER" in metric


class ErrorCounts(NamedTuple):
    """Edit counts of a minimal alignment between a reference and a hypothesis."""

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
    """Count word edits; words are separated by white space."""
    return _errors(reference.split(), hypothesis.split())


def char_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count character edits, spaces included."""
    return _errors(reference, hypothesis)


def _errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    counts = {"replace": 0, "delete": 0, "insert": 0}
    for operation in Levenshtein.editops(reference, hypothesis):
        counts[operation.tag] += 1
    return ErrorCounts(counts["replace"], counts["delete"], counts["insert"], len(reference))


class TextErrors(NamedTuple):
    """The errors of one transcript, counted in both units."""

    characters: ErrorCounts
    words: ErrorCounts


def text_errors(reference: str, hypothesis: str) -> TextErrors:
    """Count the character and the word edits of a transcript."""
    return TextErrors(char_errors(reference, hypothesis), word_errors(reference, hypothesis))


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
        """Remove all utterances."""
        self.rate = ErrorRate()

    @property
    def totals(self) -> list[float]:
        """The sums of `rate`."""
        return self.rate.totals

    @totals.setter
    def totals(self, values: list[float]) -> None:
        self.rate.totals = values

    def update(self, reference: str, hypotheses: Mapping[str, str]) -> None:
        """Add one utterance: its normalised reference and the best text of each decoder by its name."""
        self.rate.add(self._errors(reference, hypotheses[self.decoder]))

    def compute(self) -> dict[str, float]:
        """Return the values by the names used in logs and in `monitor`."""
        return dict(zip(self.names(), (self.rate.mean, self.rate.corpus), strict=True))

    def names(self) -> list[str]:
        """Return the keys of `compute`."""
        return [self.name, self.name + CORPUS]


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
