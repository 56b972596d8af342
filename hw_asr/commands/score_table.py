"""Totals over transcripts and the table that is printed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw_asr.metrics import ErrorRate, text_errors
from hw_asr.recognition.recogniser import Seconds
from hw_asr.runtime.console import aligned

_NAMES = {"argmax": "argmax", "beam_search": "beam search", "lm_beam_search": "beam search + LM"}
_HEADER = ["decoder", "CER mean", "CER corpus", "WER mean", "WER corpus", "S", "D", "I", "words", "decoding"]


def totals(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, ErrorRate]]:
    """Return `{decoder: {"cer", "wer"}}` over the entries that have a reference and a transcript."""
    result: dict[str, dict[str, ErrorRate]] = {}
    for entry in entries:
        for name in entry.get("wer", ()):
            rates = result.setdefault(name, {"cer": ErrorRate(), "wer": ErrorRate()})
            errors = text_errors(entry["ground_truth"], best_text(entry, name))
            rates["cer"].add(errors.characters)
            rates["wer"].add(errors.words)
    return result


def best_text(entry: Mapping[str, Any], decoder: str) -> str:
    """Return an entry's text by a decoder; nothing where it found none."""
    found = entry[f"pred_text_{decoder}"]
    if isinstance(found, str):
        return found
    return str(found[0][0]) if found else ""


def table(entries: Sequence[Mapping[str, Any]], seconds: Seconds) -> str:
    """Lay out error rates per decoder and the time taken; say what was left out of the averages."""
    scores = totals(entries)
    rows = [_HEADER]
    for name, spent in seconds.decoding.items():
        cells = _rates(scores[name]) if name in scores else [""] * (len(_HEADER) - 2)
        rows.append([_NAMES.get(name, name), *cells, f"{spent:.2f} s"])
    lines = [aligned(rows)]
    if not scores:
        lines.append("no references: transcripts only")
    lines.append(_time(seconds))
    return "\n".join(lines + _left_out(entries, bool(scores)))


def _rates(rates: Mapping[str, ErrorRate]) -> list[str]:
    cer, wer = rates["cer"], rates["wer"]
    percent = [f"{100 * value:.2f}%" for value in (cer.mean, cer.corpus, wer.mean, wer.corpus)]
    return percent + [f"{int(total)}" for total in wer.totals[:4]]


def _time(seconds: Seconds) -> str:
    def speed(spent: float) -> str:
        return f"{spent:.2f} s ({seconds.audio / spent:.0f}x real time)" if spent else "0 s"

    return (
        f"{seconds.audio:.1f} s of audio; features and model {speed(seconds.model)}, "
        f"decoding {speed(sum(seconds.decoding.values()))}"
    )


def _left_out(entries: Sequence[Mapping[str, Any]], any_reference: bool) -> list[str]:
    failed = [entry for entry in entries if "error" in entry]
    silent = sum("ground_truth" not in entry for entry in entries if "error" not in entry)
    lines = []
    if silent and any_reference:
        lines.append(f"{silent} of {len(entries)} recordings have no reference: transcribed, not in the averages")
    if failed:
        lines.append(f"{len(failed)} of {len(entries)} recordings could not be read:")
        lines += [f"  {entry['error']}" for entry in failed[:10]]
        lines += ["  ..."] * (len(failed) > 10)
    return lines
