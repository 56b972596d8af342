"""Recordings in a page: the worst first, as long as they fit, and pieces of recordings by themselves."""

from __future__ import annotations

import base64
import io
import json
import re
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from hw_asr.commands.report import show_results
from hw_asr.report.clips import MOST_MISFITS, Clip, Source, clip_of, embed
from hw_asr.tests.report_case import PageCase, results


class AudioTest(PageCase):
    def test_recordings_are_embedded_worst_first_up_to_the_limit(self) -> None:
        entries = results(self.folder, 10, 10)
        everything = self.data(self.write(entries))
        self.assertTrue(all("clip" in row for row in everything["utterances"]))
        page = self.write(entries, audio_limit_mb=0.005)
        clips = re.findall(r'id="(clip-\d+)">data:audio/mpeg;base64,', page)
        data = self.data(page)
        self.assertTrue(1 <= len(clips) <= 4, clips)
        self.assertEqual("clip-4", clips[0])
        self.assertIn(f"{len(clips)} of 10 recordings", data["audio_note"])
        self.assertEqual("../utterance_0000.wav", data["utterances"][0]["href"])

    def test_a_recording_that_does_not_fit_leaves_room_for_others(self) -> None:
        entries = results(self.folder, 3, 3)
        noise = np.random.default_rng(0).uniform(-1, 1, 16_000 * 60)
        soundfile.write(entries[0]["audio_path"], noise, 16_000)
        sources = [Source(Path(entry["audio_path"]), entry["duration"], None) for entry in entries]
        clips = embed(sources, 0.05)
        self.assertEqual([True, False, False], [clip is None for clip in clips])

    def test_what_does_not_fit_is_not_converted_forever(self) -> None:
        sources = [Source(Path("x"), None, None)] * 30
        with mock.patch("hw_asr.report.clips.clip_of", return_value=Clip(b"x" * 900, "audio/mpeg")) as convert:
            clips = embed(sources, 0.001)
        self.assertEqual(1 + MOST_MISFITS, convert.call_count)
        self.assertEqual(1, sum(clip is not None for clip in clips))

    def test_a_piece_has_a_clip_of_its_own(self) -> None:
        (entry,) = results(self.folder, 1, 1)
        soundfile.write(entry["audio_path"], np.zeros(16_000 * 60), 16_000)
        row = self.data(self.write([{**entry, "offset": 40.0, "duration": 2.0}]))["utterances"][0]
        self.assertEqual((40.0, "clip-0"), (row["offset"], row["clip"]))
        clip = clip_of(Source(Path(entry["audio_path"]), 2.0, 40.0))
        assert clip is not None
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.uri.partition(",")[2])))
        self.assertAlmostEqual(2.0, len(samples) / rate, delta=0.1)

    def test_a_recording_that_is_gone_has_no_player(self) -> None:
        row = self.data(self.write(results(self.folder, 1)))["utterances"][0]
        self.assertFalse({"href", "clip"} & set(row))

    def test_relative_paths_are_also_those_of_the_results(self) -> None:
        (entry,) = results(self.folder, 1, 1)
        entry["audio_path"] = Path(entry["audio_path"]).name
        output = self.folder / "output.json"
        output.write_text(json.dumps([entry]))
        show_results(output, self.page, 20)
        data = self.data(self.page.read_text(encoding="utf-8"))
        self.assertEqual(
            ("clip-0", "../utterance_0000.wav"), tuple(data["utterances"][0][key] for key in ("clip", "href"))
        )
        self.assertIn("The recordings were not found", self.data(self.write([entry]))["audio_note"])


if __name__ == "__main__":
    unittest.main()
