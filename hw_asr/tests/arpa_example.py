"""Random ARPA models for tests, and a scorer of them that shares no code with the project's."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

Ngram = tuple[str, ...]


class ArpaExample:
    """A back-off model with decimal logarithms in dictionaries; `write` makes the file."""

    def __init__(self, words: list[str], order: int, seed: int, unknown: bool = True) -> None:
        self.order = order
        draw = random.Random(seed)
        vocabulary = ["<s>", "</s>", *(["<unk>"] if unknown else []), *words]
        self.log_probs: dict[Ngram, float] = {(word,): round(-4 * draw.random() - 0.1, 5) for word in vocabulary}
        self.backoffs: dict[Ngram, float] = {}
        contexts: list[Ngram] = [(word,) for word in ["<s>", *words]]
        for _ in range(2, order + 1):
            longer = []
            for context in contexts:
                self.backoffs[context] = round(0.2 - draw.random(), 5)
                for word in draw.sample(["</s>", *words], k=min(3, len(words) + 1)):
                    self.log_probs[(*context, word)] = round(-3 * draw.random() - 0.05, 5)
                    if word != "</s>":
                        longer.append((*context, word))
            contexts = longer

    def score(self, words: list[str], bos: bool = True, eos: bool = True) -> float:
        """Return the natural log-probability by the definition of Katz's back-off, recursively."""
        known = [word if (word,) in self.log_probs else "<unk>" for word in words]
        history = ["<s>"] if bos else []
        total = 0.0
        for word in known + ["</s>"] * eos:
            total += self._log_prob(tuple(history[-(self.order - 1) :]) if self.order > 1 else (), word)
            history.append(word)
        return total * math.log(10)

    def _log_prob(self, history: Ngram, word: str) -> float:
        if (*history, word) in self.log_probs:
            return self.log_probs[(*history, word)]
        if not history:
            return -100.0  # only <unk> can be missing
        return self.backoffs.get(history, 0.0) + self._log_prob(history[1:], word)

    def text(self) -> str:
        """Return the file's content."""
        lines = ["\\data\\"]
        by_order = {
            order: [ngram for ngram in self.log_probs if len(ngram) == order] for order in range(1, self.order + 1)
        }
        lines += [f"ngram {order}={len(ngrams)}" for order, ngrams in by_order.items()]
        for order, ngrams in by_order.items():
            lines += ["", f"\\{order}-grams:"]
            for ngram in ngrams:
                backoff = f"\t{self.backoffs[ngram]}" if ngram in self.backoffs else ""
                lines.append(f"{self.log_probs[ngram]}\t{' '.join(ngram)}{backoff}")
        return "\n".join([*lines, "", "\\end\\", ""])

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        path.write_text(self.text(), encoding="utf-8")
        return path


def all_words(letters: str, length: int) -> list[str]:
    """Return all words of up to so many letters."""
    return ["".join(word) for size in range(1, length + 1) for word in itertools.product(letters, repeat=size)]
