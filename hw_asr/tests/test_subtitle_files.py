"""The subtitle files of test.py: their names, and that nobody's own subtitles are replaced."""

from __future__ import annotations

import shutil
import unittest
from pathlib import Path
from typing import Any

from hw_asr.commands.subtitle_files import SubtitleFiles, distinct
from hw_asr.tests.transcribe_case import TranscribeCase


class NamesTest(unittest.TestCase):
    def test_recordings_of_the_same_stem_have_names_of_their_own(self) -> None:
        for stems, names in (
            (["talk", "talk-2", "talk", "talk"], ["talk", "talk-2", "talk-3", "talk-4"]),
            (["A", "a", "a-2"], ["A", "a-3", "a-2"]),  # for file systems that do not distinguish cases
        ):
            self.assertEqual(names, list(distinct(stems)))


class SubtitleFilesTest(TranscribeCase):
    def test_only_subtitles_of_an_earlier_run_are_replaced(self) -> None:
        folder = self.folder / "own"
        folder.mkdir()
        for name in ("00.opus", "01.opus"):
            shutil.copy(self.audio / name, folder)
        arguments = ["-t", str(folder), "--srt", str(folder), "--vtt", str(folder)]
        own = folder / "01.vtt"
        own.write_bytes(b"WEBVTT\n\nof caf\xe9s\n")
        entries, printed = self.run_test(*arguments, code=1)
        self.assertEqual([], entries)
        self.assertRegex(printed, "--vtt: .*01.vtt exists and is not from an earlier run, .* or .* with --overwrite")
        own.unlink()
        self.run_test(*arguments)
        written = {path: path.read_bytes() for path in folder.glob("*.[sv]*t")}
        self.assertEqual(4, len(written))
        self.again(*arguments)
        edited = folder / "00.srt"
        edited.write_text("1\n00:00:00,000 --> 00:00:01,000\ncorrected\n")
        self.assertRegex(self.again(*arguments, code=1), "--srt: .*00.srt exists .* was changed since")
        self.assertIn("corrected", edited.read_text())
        self.again(*arguments, "--overwrite")
        self.assertEqual(written, {path: path.read_bytes() for path in written})

    def again(self, *arguments: str, code: int = 0) -> str:
        """Run test.py while the output of an earlier run is there."""
        return self.run_test(*arguments, code=code, keep_output=True)[1]

    def test_recordings_that_cannot_be_read_have_no_subtitles(self) -> None:
        words = [{"word": "a", "start": 0.0, "end": 1.0, "confidence": 1.0}]
        entries: list[dict[str, Any]] = [{"audio_path": "a/talk.wav"}, {"audio_path": "b/talk.wav", "words": words}]
        directory = self.folder / "two"
        SubtitleFiles(directory, ".srt", " ").write(entries)
        self.assertEqual([directory / "talk-2.srt"], list(Path(directory).iterdir()))


if __name__ == "__main__":
    unittest.main()
