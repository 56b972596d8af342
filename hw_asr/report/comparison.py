"""Comparison of two results on the same recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hw_asr.report.evaluation import evaluation_data, hypothesis_of
from hw_asr.report.page_data import UNITS, PageData, Row, Unit
from hw_asr.report.results import LABELS, PREFIX, ReportError, Result, best_text, decoders_of
from hw_asr.report.statistics import MIN_COMPARED, Difference, compare


def comparison_data(
    first: Sequence[Result],
    second: Sequence[Result],
    names: tuple[str, str] = ("A", "B"),
    decoders: tuple[str, str] | None = None,
) -> PageData:
    """Return everything the page shows of a comparison, as plain data.

    Recordings are paired by path; those that only one output has, or whose references differ, are counted and left
    out. `decoders` default to the most elaborate one that both outputs have.
    """
    for name, results in zip(names, (first, second), strict=True):
        if not results:
            raise ReportError(f"{name} is empty; nothing can be compared")
    chosen = _choose(first, second, names, decoders)
    labels = [f"{name}: {LABELS.get(decoder, decoder)}" for name, decoder in zip(names, chosen, strict=True)]
    pairs, left_out = _pair(first, second)
    if not pairs:
        raise ReportError(f"{names[0]} and {names[1]} have no recording in common; nothing can be compared")
    merged = [_merged(pair, labels, chosen) for pair in pairs]
    data = evaluation_data(merged, labels)
    scored = [row for row in data["utterances"] if row["reference"] is not None and all(row["hypotheses"])]
    for row in data["utterances"]:
        row["change"] = None
    changes = []
    for row in scored:
        change = hypothesis_of(row, 1)["errors"] - hypothesis_of(row, 0)["errors"]
        row["change"] = change
        changes.append(change)
    data["comparison"] = {
        "differences": {unit: _difference(scored, unit).to_json() for unit in UNITS} if scored else {},
        "better": sum(change < 0 for change in changes),
        "worse": sum(change > 0 for change in changes),
        "same": sum(change == 0 for change in changes),
        "left_out": left_out,
    }
    return data


def _merged(pair: tuple[Result, Result], labels: Sequence[str], decoders: tuple[str, str]) -> Result:
    """Return one result with the texts of both, each under the label of its output."""
    first, second = pair
    texts = zip(labels, (best_text(result, name) for result, name in zip(pair, decoders, strict=True)), strict=True)
    return {
        **{key: first.get(key) for key in ("audio_path", "offset", "speaker", "duration", "ground_truth")},
        "error": first.get("error") or second.get("error"),
        **{PREFIX + label: text for label, text in texts},
    }


def summary(data: PageData) -> str:
    """Return the outcome of a comparison in a few lines."""
    found = data["comparison"]
    lines = []
    for line in data["headline"]:
        lines.append(f"{line['decoder']}: WER {line['wer']['corpus']:.2%}  CER {line['cer']['corpus']:.2%}")
    for unit, name in (("words", "WER"), ("characters", "CER")):
        if unit in found["differences"]:
            lines.append(f"{name} {_sentence(found['differences'][unit])}")
    if 0 < data["num_scored"] < MIN_COMPARED:
        lines.append(
            f"too few recordings to tell: {data['num_scored']} with a reference, at least {MIN_COMPARED} needed"
        )
    lines.append(
        f"{data['num_scored']} recordings with a reference: {found['better']} better, {found['worse']} worse, "
        f"{found['same']} with as many errors in the second"
    )
    lines += [f"left out: {count} {reason}" for reason, count in found["left_out"].items() if count]
    return "\n".join(lines)


def _sentence(difference: dict[str, Any]) -> str:
    text = f"{100 * difference['difference']:+.2f} points"
    if difference["interval"] is None:
        return text
    low, high = difference["interval"]
    text += f" [{100 * low:+.2f}, {100 * high:+.2f}], paired bootstrap p = {difference['bootstrap_p']:.3g}"
    return f"{text}, matched pairs p = {difference['matched_pairs_p']:.3g}"


def _choose(
    first: Sequence[Result], second: Sequence[Result], names: tuple[str, str], decoders: tuple[str, str] | None
) -> tuple[str, str]:
    known = (decoders_of(first), decoders_of(second))
    if decoders is None:
        common = [name for name in known[0] if name in known[1]]
        if not common:
            raise ReportError(
                f"{names[0]} has {', '.join(known[0]) or 'no decoder'} and {names[1]} has "
                f"{', '.join(known[1]) or 'no decoder'}; name one of each with --decoder"
            )
        return common[-1], common[-1]
    for name, decoder, available in zip(names, decoders, known, strict=True):
        if decoder not in available:
            raise ReportError(f"{name} has no decoder {decoder!r}; it has {', '.join(available) or 'none'}")
    return decoders


def _pair(first: Sequence[Result], second: Sequence[Result]) -> tuple[list[tuple[Result, Result]], dict[str, int]]:
    others: dict[tuple[str, object], list[Result]] = {}
    for result in reversed(second):
        others.setdefault(_place(result), []).append(result)
    pairs, conflicting = [], 0
    for result in first:
        candidates = others.get(_place(result))
        if candidates:
            other = candidates.pop()
            if result.get("ground_truth") == other.get("ground_truth"):
                pairs.append((result, other))
            else:
                conflicting += 1
    left_out = {
        "only in the first": len(first) - len(pairs) - conflicting,
        "only in the second": sum(map(len, others.values())),
        "with different references": conflicting,
    }
    return pairs, left_out


def _place(result: Result) -> tuple[str, object]:
    """Return the recording of a result and, if it is a piece of it, where the piece starts."""
    return str(result["audio_path"]), result.get("offset")


def _difference(scored: Sequence[Row], unit: Unit) -> Difference:
    a, b = (np.array([hypothesis_of(row, index)[unit].edits for row in scored], dtype=np.float64) for index in (0, 1))
    lengths = np.array([hypothesis_of(row, 0)[unit].length for row in scored], dtype=np.float64)
    return compare(a, b, lengths)
