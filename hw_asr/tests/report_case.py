"""What tests of the page share: entries of an output.json, a place for the page, what stands in it."""

from __future__ import annotations

import json
import re
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hw_asr.report.page import write_report

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "by", "the", "river"]


def results(folder: Path, num: int, num_recordings: int = 0) -> list[dict[str, Any]]:
    """Entries whose number of errors is index % 5; the first `num_recordings` have audio."""
    entries = []
    for index in range(num):
        path = folder / f"utterance_{index:04d}.wav"
        if index < num_recordings:
            soundfile.write(path, 0.1 * np.sin(np.arange(8000) / 9), 16000)
        reference = WORDS[: 5 + index % 7]
        heard = ["wrong"] * (index % 5) + reference[index % 5 :]
        timed = [
            {"word": word, "start": i / 10, "end": (i + 1) / 10, "confidence": 0.8} for i, word in enumerate(heard)
        ]
        entries.append({
            "audio_path": str(path), "duration": 0.5 + index % 9, "speaker": f"s{index % 3}",
            "ground_truth": " ".join(reference), "pred_text_argmax": " ".join(heard),
            "pred_text_beam_search": [[" ".join(heard), 0.5], ["second best", 0.1]], "words": timed,
        })  # fmt: skip
    return entries


def result(path: str, reference: str | None, *texts: str, **more: Any) -> dict[str, Any]:
    """An entry of output.json with up to two decoders."""
    entry: dict[str, Any] = {"audio_path": path, "duration": 3.0}
    if reference is not None:
        entry["ground_truth"] = reference
    if texts:
        entry["pred_text_argmax"] = texts[0]
    if len(texts) > 1:
        entry["pred_text_beam_search"] = [[texts[1], 0.5], ["other", 0.1]]
    return entry | more


class PageCase(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.page = self.folder / "out" / "report.html"

    def write(self, entries: list[dict[str, Any]], **options: Any) -> str:
        write_report(entries, self.page, **({"title": "demo", "totals": {}} | options))
        return self.page.read_text(encoding="utf-8")

    def data(self, page: str) -> Any:
        found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
        assert found is not None
        return json.loads(found[1])
