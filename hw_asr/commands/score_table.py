"""Error rates over transcripts, and what is printed about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_asr.metrics import ErrorRate, text_errors
from hw_asr.recognition.piece_decoder import BEST_FIRST
from hw_asr.recognition.timing import Seconds
from hw_asr.report.results import LABELS, PREFIX, Result, best_text
from hw_asr.runtime.console import aligned
from hw_asr.runtime.printable import printable_line

MOST_SHOWN = 20
"""Transcripts printed of recordings without references."""
MOST_LISTED = 10
"""Damaged or unreadable recordings listed."""
_HEADER = ["decoder", "CER mean", "CER corpus", "WER mean", "WER corpus", "S", "D", "I", "words", "decoding"]


def totals(entries: Sequence[Result]) -> dict[str, dict[str, ErrorRate]]:
    """Return `{decoder: {"cer", "wer"}}` over the entries that have a reference and a transcript."""
    result: dict[str, dict[str, ErrorRate]] = {}
    for entry in entries:
        for name in entry.get("wer", ()):
            rates = result.setdefault(name, {"cer": ErrorRate(), "wer": ErrorRate()})
            errors = text_errors(entry["ground_truth"], best_text(entry, name) or "")
            rates["cer"].add(errors.characters)
            rates["wer"].add(errors.words)
    return result


def summary(entries: Sequence[Result], seconds: Seconds) -> str:
    """Return what is printed of a split or folder: a table of error rates, or else a few transcripts.

    Up to MOST_SHOWN recordings without references are shown with their best text. The time taken, and what was left
    out or is damaged, follow.
    """
    scores = totals(entries)
    lines = []
    if scores:
        lines.append(_table(scores, seconds))
    elif len(entries) <= MOST_SHOWN:
        shown = [entry for entry in entries if "error" not in entry]
        lines += [printable_line(f"{Path(entry['audio_path']).name}: {shown_text(entry)}") for entry in shown]
    else:
        lines.append(f"{len(entries)} recordings without references; the transcripts are in the output file")
    lines.append(_time(seconds))
    return "\n".join(lines + _left_out(entries, bool(scores)) + _damaged(entries))


def shown_text(entry: Result) -> str:
    """Return the text of the most elaborate decoder, or a note that there is none."""
    names = [key.removeprefix(PREFIX) for key in entry if key.startswith(PREFIX)]
    best = next((name for name in BEST_FIRST if name in names), names[0])
    return (best_text(entry, best) or "").strip() or "(no speech)"


def _table(scores: Mapping[str, dict[str, ErrorRate]], seconds: Seconds) -> str:
    rows = [_HEADER]
    for name, rates in scores.items():
        spent = seconds.decoding.get(name, 0.0)
        rows.append([LABELS.get(name, name), *_rates(rates), f"{spent:.2f} s"])
    return aligned(rows)


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


def _left_out(entries: Sequence[Result], any_reference: bool) -> list[str]:
    failed = [entry["error"] for entry in entries if "error" in entry]
    unscored = sum("ground_truth" not in entry for entry in entries if "error" not in entry)
    lines = []
    if unscored and any_reference:
        lines.append(f"{unscored} of {len(entries)} recordings have no reference: transcribed, not in the averages")
    if failed:
        lines += _listed(f"{len(failed)} of {len(entries)} recordings could not be read:", failed)
    return lines


def _damaged(entries: Sequence[Result]) -> list[str]:
    damaged = [f"{entry['audio_path']}: {entry['warning']}" for entry in entries if "warning" in entry]
    title = f"{len(damaged)} of {len(entries)} recordings have a warning; they were transcribed as far as possible:"
    return _listed(title, damaged) if damaged else []


def _listed(title: str, lines: list[str]) -> list[str]:
    return [
        title,
        *(f"  {printable_line(line)}" for line in lines[:MOST_LISTED]),
        *["  ..."] * (len(lines) > MOST_LISTED),
    ]
