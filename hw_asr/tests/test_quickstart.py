"""The commands of docs/quickstart.md, run as written on a small part of the demo speech.

The installation and `make demo` itself are left out; a short training run of the demo recipe replaces it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
CORPUS = ROOT / "demo" / "corpus"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def entries(split: str, number: int) -> list[dict[str, Any]]:
    """Return every so manieth utterance of the demo's corpus, so that several speakers are among them."""
    lines = (CORPUS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:: len(lines) // number][:number]]


def lay_out(place: Path) -> None:
    """Make what the page takes for granted: the checkout, and recordings of one's own."""
    for name in ("train.py", "test.py", "scripts", "hw_asr", "demo"):
        (place / name).symlink_to(ROOT / name)
    for name, split, number in (("train", "train", 30), ("dev", "dev", 6)):
        for entry in entries(split, number):
            target = place / "my_data" / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CORPUS / entry["path"], target)
            with (place / f"my_data/{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({key: entry[key] for key in ("path", "text")}) + "\n")
    for folder in ("audio", "transcriptions"):
        (place / "my_recordings" / folder).mkdir(parents=True)
    for number, entry in enumerate(entries("test", 5)):
        audio = Path(entry["path"])
        shutil.copy(CORPUS / audio, place / f"my_recordings/audio/{number}{audio.suffix}")
        if number:
            text = place / f"my_recordings/transcriptions/{number}.txt"
            text.write_text(entry["text"].upper() + "\n", encoding="utf-8")


@unittest.skipIf(sys.platform == "win32", "the page's commands are for a Unix shell")
class QuickstartTest(unittest.TestCase):
    def run_commands(self, commands: str, place: Path) -> str:
        """Run a block of the page in a shell, with this interpreter for `python`."""
        commands = re.sub(r"^python ", f"'{sys.executable}' ", commands, flags=re.MULTILINE)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        result = subprocess.run(
            ["sh", "-ec", commands], cwd=place, env=environment, capture_output=True, text=True, timeout=600
        )
        self.assertEqual(result.returncode, 0, f"{commands}\n{result.stdout}\n{result.stderr}")
        return result.stdout + result.stderr

    def test_all_commands_of_the_page(self) -> None:
        with TemporaryDirectory() as directory:
            place = Path(directory)
            lay_out(place)
            (config,) = blocks("json")
            (place / "my_config.json").write_text(config, encoding="utf-8")
            transcribe, train, resume, measure, language_model = blocks("sh")
            self.run_commands(
                "python train.py -c hw_asr/configs/demo.json -d cpu --set trainer.epochs=1 --set trainer.len_epoch=2 "
                "--set data.train.datasets.0.args.limit=48 --set data.dev.datasets.0.args.limit=4",
                place,
            )
            printed = self.run_commands(transcribe, place)
            self.assertIn("1 of 5 recordings have no reference", printed)
            self.check_results(place / "transcripts.json", "beam_search")
            self.assertIn("my_data/train.jsonl", self.run_commands(train, place))
            self.assertEqual(self.epochs(place), [1])
            self.run_commands(resume, place)
            self.assertEqual(self.epochs(place), [1, 2])
            self.run_commands(measure, place)
            self.check_results(place / "results.json", "beam_search")
            self.assertIn("beam search + LM", self.run_commands(language_model, place))
            self.check_results(place / "results_lm.json", "lm_beam_search")
            for page in ("transcripts", "results", "training", "comparison"):
                self.assertIn("<html", (place / f"{page}.html").read_text(encoding="utf-8"))

    def check_results(self, path: Path, best: str) -> None:
        results = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual([Path(each["audio_path"]).stem for each in results], [str(number) for number in range(5)])
        self.assertEqual([best in each.get("wer", {}) for each in results], [False, True, True, True, True])

    @staticmethod
    def epochs(place: Path) -> list[int]:
        lines = (place / "saved/log/mine/first/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [int(values["epoch"]) for values in map(json.loads, lines) if "epoch" in values]

    def test_every_command_is_one_that_is_run_or_installs(self) -> None:
        self.assertEqual(
            [block.splitlines()[-2:] for block in blocks("console")], [["make demo", "source .venv/bin/activate"]]
        )
        languages = set(re.findall(r"^```(\w+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
        self.assertEqual(languages, {"console", "sh", "json", "text"})


if __name__ == "__main__":
    unittest.main()
