"""Oracles for n-gram models: modified Kneser-Ney with dictionaries, straight from its definition, and ARPA look-up."""

from __future__ import annotations

import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

Ngram = tuple[str, ...]


class SlowKneserNey:
    """p(word | context) by Chen and Goodman 1998 with Heafield's <unk>, <s> and pruning; no arrays, no sorting."""

    def __init__(
        self,
        sentences: Sequence[str],
        order: int,
        prune: Sequence[int] | None = None,
        fallback: Sequence[float] | None = None,
    ) -> None:
        occurrences = [Counter[Ngram]() for _ in range(order + 1)]
        before: dict[Ngram, set[str]] = defaultdict(set)
        for sentence in sentences:
            words = ["<s>", *sentence.split(), "</s>"]
            for length in range(1, order + 1):
                for start in range(len(words) - length + 1):
                    ngram = tuple(words[start : start + length])
                    occurrences[length][ngram] += 1
                    if start:
                        before[ngram].add(words[start - 1])
        del occurrences[1][("<s>",)]
        self.counts = [Counter[Ngram]() for _ in range(order + 1)]
        for length in range(1, order + 1):
            for ngram, count in occurrences[length].items():
                full = length == order or ngram[0] == "<s>"
                self.counts[length][ngram] = count if full else len(before[ngram])
        prune = prune or [0] * order
        self.kept = {
            ngram for length in range(1, order + 1) for ngram, n in occurrences[length].items() if n > prune[length - 1]
        }
        self.discounts = [self._discounts(length, fallback) for length in range(1, order + 1)]
        self.vocabulary = sorted({ngram[0] for ngram in occurrences[1]} | {"<unk>"})
        self._after: dict[Ngram, list[Ngram]] = defaultdict(list)
        for length in range(1, order + 1):
            for ngram in occurrences[length]:
                self._after[ngram[:-1]].append(ngram)

    def _discounts(self, length: int, fallback: Sequence[float] | None) -> Sequence[float]:
        of = Counter(self.counts[length].values())
        if fallback is not None and not (of[1] and of[2] and of[3]):
            return fallback
        ratio = of[1] / (of[1] + 2 * of[2])
        return [1 - 2 * ratio * of[2] / of[1], 2 - 3 * ratio * of[3] / of[2], 3 - 4 * ratio * of[4] / of[3]]

    def probability(self, context: Ngram, word: str) -> float:
        """Return p(word | context), the context shorter than the order; it may never have been seen."""
        shorter = self.probability(context[1:], word) if context else 1 / len(self.vocabulary)
        seen = self._after[context]
        if not seen:
            return shorter
        counts = self.counts[len(context) + 1]
        total = sum(counts[ngram] for ngram in seen)
        discounts = self.discounts[len(context)]
        taken = sum(discounts[min(counts[ngram], 3) - 1] if ngram in self.kept else counts[ngram] for ngram in seen)
        ngram = (*context, word)
        own = counts[ngram] - discounts[min(counts[ngram], 3) - 1] if ngram in self.kept else 0.0
        return own / total + taken / total * shorter


class Arpa:
    """An ARPA file in a dictionary, scored as the format says (Katz back-off)."""

    def __init__(self, path: Path) -> None:
        self.probs: dict[Ngram, float] = {}
        self.backoffs: dict[Ngram, float] = {}
        self.declared: list[int] = []
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for line in file:
                fields = line.rstrip("\n").split("\t")
                if line.startswith("ngram "):
                    self.declared.append(int(line.split("=")[1]))
                elif len(fields) > 1:
                    ngram = tuple(fields[1].split(" "))
                    self.probs[ngram] = float(fields[0])
                    self.backoffs[ngram] = float(fields[2]) if len(fields) > 2 else 0.0
        self.order = len(self.declared)

    def log10(self, context: Ngram, word: str) -> float:
        """Return log10 p(word | context); unknown words count as <unk>."""
        word = word if (word,) in self.probs else "<unk>"
        total = 0.0
        while (*context, word) not in self.probs:
            total += self.backoffs.get(context, 0.0)
            context = context[1:]
        return total + self.probs[(*context, word)]

    def perplexity(self, sentences: Sequence[str]) -> float:
        """Return the perplexity per word, sentence ends and unknown words included."""
        total, num_words = 0.0, 0
        for sentence in sentences:
            words = ["<s>", *(word if (word,) in self.probs else "<unk>" for word in sentence.split()), "</s>"]
            for end in range(1, len(words)):
                total += self.log10(tuple(words[max(0, end - self.order + 1) : end]), words[end])
            num_words += len(words) - 1
        return math.pow(10, -total / num_words)
