"""Alignment of texts with their references: edits and confusions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

KINDS = ("replace", "delete", "insert")


class Edit(NamedTuple):
    """Tokens `start:end` of the reference are aligned to `hypothesis_start:hypothesis_end` of the hypothesis."""

    kind: str
    start: int
    end: int
    hypothesis_start: int
    hypothesis_end: int


class Alignment(NamedTuple):
    """A minimal alignment of two token sequences; what is not in `edits` is equal."""

    reference: Sequence[str]
    hypothesis: Sequence[str]
    edits: list[Edit]

    @property
    def num_errors(self) -> int:
        """Substituted, deleted and inserted tokens."""
        return sum(max(edit.end - edit.start, edit.hypothesis_end - edit.hypothesis_start) for edit in self.edits)

    def confusions(self) -> Iterable[tuple[str, str, str]]:
        """Yield (kind, reference token, hypothesis token) for every wrong token; "" is the missing side."""
        for kind, start, end, hypothesis_start, hypothesis_end in self.edits:
            wanted, got = self.reference[start:end], self.hypothesis[hypothesis_start:hypothesis_end]
            length = max(len(wanted), len(got))
            for index in range(length):
                yield kind, (wanted[index] if wanted else ""), (got[index] if got else "")

    def matched(self) -> list[bool]:
        """Return for every token of the hypothesis whether it is aligned to an equal one."""
        equal = [True] * len(self.hypothesis)
        for edit in self.edits:
            for index in range(edit.hypothesis_start, edit.hypothesis_end):
                equal[index] = False
        return equal


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Align two token sequences (or two strings, by characters) with the fewest edits."""
    codes = Levenshtein.opcodes(reference, hypothesis)
    edits = [
        Edit(code.tag, code.src_start, code.src_end, code.dest_start, code.dest_end)
        for code in codes
        if code.tag != "equal"
    ]
    return Alignment(reference, hypothesis, edits)


def tokens(text: str, by_word: bool) -> Sequence[str]:
    """Split a text into what is aligned: words, or characters for scripts that do not space words."""
    return text.split() if by_word else text


_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def spaces_words(texts: Sequence[str]) -> bool:
    """Whether texts have spaces between words: at most half are without any and in a script that puts none there.

    These scripts are Thai, Lao, Burmese, Khmer, kana and Han.
    """
    unspaced = sum(_UNSPACED.search(text) is not None and len(text.split()) == 1 for text in texts)
    return 2 * unspaced <= len(texts)


def count_confusions(alignments: Iterable[Alignment], most: int) -> dict[str, list[tuple[str, str, int]]]:
    """Return for each kind of edit the `most` frequent (reference token, hypothesis token, count)."""
    counters: dict[str, Counter[tuple[str, str]]] = {kind: Counter() for kind in KINDS}
    for alignment in alignments:
        for kind, wanted, got in alignment.confusions():
            counters[kind][wanted, got] += 1
    return {
        kind: [(*pair, count) for pair, count in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]]
        for kind, counter in counters.items()
    }
