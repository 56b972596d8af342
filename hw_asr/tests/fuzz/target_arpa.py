"""Fuzz target: ARPA files, plain and gzipped, from the file to a decoded utterance."""

from __future__ import annotations

import gzip
from pathlib import Path

from hw_asr.lm.language_model import LanguageModel, Overlap, convert
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.fuzz.engine import Target

ALPHABET = ("^", "a", "b", " ")


def _seeds() -> list[bytes]:
    texts = [ArpaExample(all_words("ab", 2), order, order).text().encode() for order in (1, 2, 3)]
    return [*texts, gzip.compress(texts[1], mtime=0)]


def _parse(path: Path) -> None:
    arrays, facts = convert(path, ALPHABET)
    model = LanguageModel(str(path), ALPHABET, facts.order, arrays, Overlap(*facts[1:]))
    model.score(["a", "ab", "zz"])


TARGET = Target(
    seeds=_seeds,
    parse=_parse,
    suffix=".arpa",
    tokens=(b"-inf", b"inf", b"nan", b"1e999", b"-1e-999", b"9" * 30, b"\\data\\\n", b"\\end\\", b"\\1-grams:\n",
            b"ngram 1=", b"ngram 9=9\n", b"\t", b"\n", b"<s>", b"</s>", b"<unk>", b"\x00", b"\xff",
            b"\x1f\x8b", b" ", b"0"),
)  # fmt: skip
