"""The data of an evaluation page, from the results in output.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw_asr.metrics import ErrorRate, text_errors
from hw_asr.report.alignment import Alignment, align, count_confusions, spaces_words, tokens
from hw_asr.report.calibration import calibration
from hw_asr.report.page_data import Confusions, Group, Headline, Hypothesis, PageData, Rate, Row, Unit
from hw_asr.report.results import LABELS, Result, best_text, decoders_of
from hw_asr.report.statistics import Array, interval

DURATION_STEPS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1800.0)
MOST_DURATION_BINS = 9
MOST_CONFUSIONS = 50


def evaluation_data(results: Sequence[Result], decoders: Sequence[str] | None = None) -> PageData:
    """Return everything the page shows of an evaluation, as plain data; without `decoders`, of all of them."""
    decoders = decoders_of(results) if decoders is None else decoders
    by_word = spaces_words([result["ground_truth"] for result in results if result.get("ground_truth")])
    rows = [_utterance(result, decoders, by_word) for result in results]
    scored = [row for row in rows if row["reference"] is not None and all(row["hypotheses"])]
    return {
        "decoders": [LABELS.get(name, name) for name in decoders],
        "unit": "word" if by_word else "character",
        "num_scored": len(scored),
        "headline": [_headline(name, index, scored) for index, name in enumerate(decoders)] if scored else [],
        "durations": [_by_duration(scored, index) for index in range(len(decoders))],
        "speakers": [_by_speaker(scored, index) for index in range(len(decoders))],
        "confusions": [_confusions(scored, index, by_word) for index in range(len(decoders))],
        "calibration": calibration(results, decoders),
        "utterances": rows,
    }


def _utterance(result: Result, decoders: Sequence[str], by_word: bool) -> Row:
    reference = result.get("ground_truth")
    hypotheses: list[Hypothesis | None] = []
    for decoder in decoders:
        text = best_text(result, decoder)
        if text is None or result.get("error"):
            hypotheses.append(None)
            continue
        alternatives = result[f"pred_text_{decoder}"]
        hypothesis: Hypothesis = {
            "text": _shown(text, by_word),
            "alternatives": [] if isinstance(alternatives, str) else alternatives,
        }
        if reference is not None:
            characters, words = text_errors(reference, text)
            alignment = align(tokens(reference, by_word), tokens(text, by_word))
            hypothesis |= {
                "edits": alignment.edits,
                "words": words,
                "characters": characters,
                "errors": (words if by_word else characters).edits,
                "wer": words.rate,
                "cer": characters.rate,
            }
        hypotheses.append(hypothesis)
    row: Row = {
        "path": str(result["audio_path"]),
        "speaker": result.get("speaker"),
        "duration": result.get("duration"),
        "offset": result.get("offset"),
        "error": result.get("error"),
        "warning": result.get("warning"),
        "segments": [[part["start"], part["end"], part["text"]] for part in result.get("segments") or ()],
        "reference": None if reference is None else _shown(reference, by_word),
        "hypotheses": hypotheses,
        "words": [[word["word"], word["start"], word["end"], word["confidence"]] for word in result.get("words") or ()],
    }
    if "loss" in result:
        row["loss"] = result["loss"]
    return row


def _shown(text: str, by_word: bool) -> str:
    """Return a text whose aligned tokens are separated by single spaces, as the page expects."""
    return " ".join(text.split()) if by_word else text


def hypothesis_of(row: Row, decoder: int) -> Hypothesis:
    """Return what a decoder made of an utterance that every decoder has transcribed."""
    hypothesis = row["hypotheses"][decoder]
    assert hypothesis is not None, "the utterance was not scored"
    return hypothesis


def _counts(rows: Sequence[Row], decoder: int, unit: Unit) -> tuple[Array, Array]:
    """Return edits and reference lengths (N, 1) in `unit`, words or characters."""
    counts = [hypothesis_of(row, decoder)[unit] for row in rows]
    errors = np.array([[count.edits] for count in counts], dtype=np.float64)
    return errors, np.array([[count.length] for count in counts], dtype=np.float64)


def _headline(name: str, decoder: int, rows: Sequence[Row]) -> Headline:
    return {
        "decoder": LABELS.get(name, name),
        "wer": _rate(rows, decoder, "words"),
        "cer": _rate(rows, decoder, "characters"),
        "perfect": sum(not hypothesis_of(row, decoder)["words"].edits for row in rows) / len(rows),
    }


def _rate(rows: Sequence[Row], decoder: int, unit: Unit) -> Rate:
    total = ErrorRate()
    for row in rows:
        total.add(hypothesis_of(row, decoder)[unit])
    return {
        "corpus": total.corpus,
        "mean": total.mean,
        "interval": interval(*_counts(rows, decoder, unit))[0],
        "counts": [int(value) for value in total.totals[:4]],
    }


def _group(label: str, rows: Sequence[Row], decoder: int) -> Group:
    errors, lengths = _counts(rows, decoder, "words")
    total = float(lengths.sum())
    return {
        "label": label,
        "utterances": len(rows),
        "words": int(total),
        "wer": float(errors.sum()) / total if total else 1.0,
        "interval": interval(errors, lengths, resamples=400)[0],
    }


def _by_duration(rows: Sequence[Row], decoder: int) -> list[Group]:
    """Group by bins of equal width; the last one takes in the longest fiftieth, however long."""
    known = [(row, row["duration"]) for row in rows if row["duration"] is not None]
    if not known:
        return []
    longest = float(np.percentile([seconds for _, seconds in known], 98))
    step = next((step for step in DURATION_STEPS if longest / step <= MOST_DURATION_BINS), DURATION_STEPS[-1])
    num_bins = min(MOST_DURATION_BINS, int(longest / step) + 1)
    bins: list[list[Row]] = [[] for _ in range(num_bins)]
    for row, seconds in known:
        bins[min(num_bins - 1, int(seconds / step))].append(row)
    beyond = any(seconds >= num_bins * step for _, seconds in known)
    groups = []
    for index, inside in enumerate(bins):
        low, high = f"{index * step:g}", f"{(index + 1) * step:g}"
        if inside:
            groups.append(
                _group(f"{low} s and more" if beyond and index == num_bins - 1 else f"{low}–{high} s", inside, decoder)
            )
    return groups


def _by_speaker(rows: Sequence[Row], decoder: int) -> list[Group]:
    speakers: dict[str, list[Row]] = {}
    for row in rows:
        if row["speaker"] is not None:
            speakers.setdefault(str(row["speaker"]), []).append(row)
    groups = [_group(name, members, decoder) for name, members in speakers.items()]
    return sorted(groups, key=lambda group: (-group["wer"], group["label"]))


def _confusions(rows: Sequence[Row], decoder: int, by_word: bool) -> Confusions:
    pairs = [(row["reference"] or "", hypothesis_of(row, decoder)) for row in rows]
    confusions: Confusions = {}
    if by_word:
        words = (Alignment(wanted.split(), got["text"].split(), got["edits"]) for wanted, got in pairs)
        confusions["words"] = count_confusions(words, MOST_CONFUSIONS)
    characters = (align(wanted, got["text"]) for wanted, got in pairs if got["characters"].edits)
    confusions["characters"] = count_confusions(characters, MOST_CONFUSIONS)
    return confusions
