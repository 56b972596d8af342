"""Which recordings test.py transcribes, under which names, and what it says of those that it leaves out."""

from __future__ import annotations

import json
import os
import shutil
import unittest
from pathlib import Path

from hw_asr.tests.transcribe_case import TranscribeCase


class SourcesTest(TranscribeCase):
    def test_what_the_limits_of_a_split_leave_out_is_counted(self) -> None:
        rows = [{"path": f"{number:02d}.opus", "text": "a" * number} for number in range(3)]
        manifest, config = self.audio / "val.jsonl", self.folder / "val.json"
        manifest.write_text("\n".join(map(json.dumps, rows)))
        corpus = {"type": "CustomAudioDataset", "args": {"data": str(manifest), "max_text_length": 1}}
        config.write_text(json.dumps({"data": {"val": {"batch_size": 2, "datasets": [corpus]}}}))
        entries, printed = self.run_test("-c", str(config))
        self.assertEqual(2, len(entries))
        self.assertRegex(printed, "val: 1 left out: .*text")

    def test_directories_without_a_name_of_their_own(self) -> None:
        folder = self.folder / "few"
        (folder / "below").mkdir(parents=True)
        shutil.copy(self.audio / "00.opus", folder)
        self.addCleanup(os.chdir, Path.cwd())
        for place, given in ((folder, "."), (folder / "below", "..")):
            os.chdir(place)
            self.assertIn("few: 1 recordings", self.run_test("-t", given)[1])


if __name__ == "__main__":
    unittest.main()
