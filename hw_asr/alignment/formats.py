"""File formats of alignments: JSON, Praat TextGrid, SubRip, WebVTT and CTM of NIST's scoring tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hw_asr.alignment.result import Alignment
from hw_asr.report.subtitles import to_srt, to_vtt
from hw_asr.types import Word


class Options(NamedTuple):
    """What some formats need besides the alignment."""

    name: str
    """Of the recording, for CTM; spaces become underscores."""
    characters: bool = False
    """Also write characters: in JSON and TextGrid. CTM and subtitles are of words."""
    separator: str = " "
    """Between words in subtitles: a space, or nothing for an alphabet without one."""


def to_json(alignment: Alignment, options: Options) -> str:
    """Return `alignment.to_dict()` as JSON."""
    return json.dumps(alignment.to_dict(options.characters), indent=2, ensure_ascii=False) + "\n"


def to_textgrid(alignment: Alignment, options: Options) -> str:
    """Return a Praat TextGrid in the long text format: interval tiers of words, characters and other speech."""
    tiers: list[tuple[str, Sequence[Word]]] = [("words", alignment.spoken)]
    if options.characters:
        tiers.append(("characters", [part for word in alignment.words for part in word.characters]))
    extra = [Word(stretch.heard, stretch.start, stretch.end, 0.0) for stretch in alignment.extra_speech]
    tiers.append(("not in the text", extra))
    end = max([alignment.duration, *(word.end for _, words in tiers for word in words)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, words) in enumerate(tiers, 1):
        intervals = _filled(words, end)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end:.6f}", f"        intervals: size = {len(intervals)}"]
        for index, interval in enumerate(intervals, 1):
            text = interval.word.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {interval.start:.6f}"]
            lines += [f"            xmax = {interval.end:.6f}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def to_ctm(alignment: Alignment, options: Options) -> str:
    """Return a line for each spoken word: recording, channel, start, duration, word, confidence."""
    name = "_".join(options.name.split()) or "recording"
    return "".join(
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {'_'.join(word.word.split())} {word.confidence:.4f}\n"
        for word in alignment.spoken
    )


def _filled(words: Sequence[Word], end: float) -> list[Word]:
    """Return intervals that cover the recording: words, and empty ones between them."""
    intervals: list[Word] = []
    position = 0.0
    for word in words:
        if word.start > position:
            intervals.append(Word("", position, word.start, 0.0))
        if word.end > max(word.start, position):
            intervals.append(Word(word.word, max(word.start, position), word.end, word.confidence))
        position = max(position, word.end)
    if end > position or not intervals:
        intervals.append(Word("", position, end, 0.0))
    return intervals


FORMATS: dict[str, Callable[[Alignment, Options], str]] = {
    "json": to_json,
    "textgrid": to_textgrid,
    "srt": lambda alignment, options: to_srt(alignment.spoken, options.separator),
    "vtt": lambda alignment, options: to_vtt(alignment.spoken, options.separator),
    "ctm": to_ctm,
}
