"""Calibration: the confidence of words compared with how often they are correct."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hw_asr.report.alignment import align
from hw_asr.report.page_data import Bin, Calibration
from hw_asr.report.results import Result, best_text
from hw_asr.report.statistics import Array
from hw_asr.text.characters import characters_of

NUM_BINS = 10


def calibration(results: Sequence[Result], decoders: Sequence[str]) -> Calibration | None:
    """Compare the confidence of words with how often they are right, in bins of equal width.

    `words` belong to the decoder whose text they spell; a word is right when it is aligned to an equal one of the
    reference. Where words are spelled without spaces, each is a character. The error is the expected calibration error
    (Naeini et al. 2015). None when there are no such words.
    """
    split = characters_of if any(_spelled_without_spaces(result, decoders) for result in results) else str.split
    confidences: list[float] = []
    right: list[bool] = []
    for result in results:
        words = result.get("words") or []
        spelled = [word["word"] for word in words]
        texts = [split(best_text(result, decoder) or "") for decoder in decoders]
        if result.get("ground_truth") is not None and spelled in texts:
            confidences += [_number(word["confidence"]) for word in words]
            right += align(split(result["ground_truth"]), spelled).matched()
    confidence, correct = np.array(confidences), np.array(right, dtype=np.float64)
    known = np.isfinite(confidence)
    confidence, correct = confidence[known], correct[known]
    if len(confidence) == 0:
        return None
    index = np.clip((confidence * NUM_BINS).astype(int), 0, NUM_BINS - 1)
    occupied = (index == number for number in range(NUM_BINS) if (index == number).any())
    bins = [_bin(confidence[inside], correct[inside]) for inside in occupied]
    error = sum(row["count"] * abs(row["confidence"] - row["right"]) for row in bins) / len(confidence)
    return {"bins": bins, "error": error, "words": len(confidence), "right": float(correct.mean())}


def _spelled_without_spaces(result: Result, decoders: Sequence[str]) -> bool:
    spelled = [word["word"] for word in result.get("words") or []]
    return len(spelled) > 1 and "".join(spelled) in (best_text(result, decoder) for decoder in decoders)


def _bin(confidence: Array, correct: Array) -> Bin:
    return {"confidence": float(confidence.mean()), "right": float(correct.mean()), "count": len(confidence)}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
