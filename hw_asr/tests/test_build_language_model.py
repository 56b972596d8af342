"""The command that builds language models: sources, alphabets, messages."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from hw_asr.tests.ngram_oracle import Arpa
from scripts.language_model import build as command

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ["Don't stop!", "stop, don't go", "GO", "go – now"]


class TestBuildCommand(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.output = self.directory / "lm.arpa"
        self.text = self.directory / "text.txt"
        self.text.write_text("\n".join(SENTENCES), encoding="utf-8")

    def run_command(self, *arguments: object) -> tuple[int, str]:
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            status = command.main(["-o", str(self.output), *map(str, arguments)])
        return status, output.getvalue()

    def words(self) -> set[str]:
        return {ngram[0] for ngram in Arpa(self.output).probs if len(ngram) == 1} - {"<s>", "</s>", "<unk>"}

    def test_text(self) -> None:
        status, output = self.run_command("--text", self.text, "--order", 2, "--discount-fallback")
        self.assertEqual(0, status, output)
        self.assertEqual({"dont", "stop", "go", "now"}, self.words())
        self.assertRegex(output, r"(?m)^ +2 +10 +10 +0\.5000 1\.0000 1\.5000")
        self.assertIn("wrote", output)

    def test_several_sources_and_alphabets(self) -> None:
        packed = self.directory / "more.txt.gz"
        packed.write_bytes(gzip.compress("вот так\nça va".encode()))
        stdin = io.TextIOWrapper(io.BytesIO(b"piped words\n"))
        with mock.patch("sys.stdin", stdin):
            self.run_command("--text", self.text, packed, "-", "--discount-fallback", "--apostrophe")
        self.assertEqual({"don't", "stop", "go", "now", "ca", "va", "piped", "words"}, self.words())
        self.run_command("--text", packed, "--alphabet", "воткса", "--discount-fallback", 1, 1, 1)
        self.assertEqual({"вот", "так"}, self.words())

    def test_transcripts_of_a_split(self) -> None:
        config = {
            "name": "x",
            "arch": {"type": "BaselineModel", "args": {"fc_hidden": 8}},
            "text_encoder": {"type": "CTCCharTextEncoder", "args": {"alphabet": "dontsgpw' "}},
            "data": {"train": {"batch_size": 1, "datasets": [{"type": "CustomAudioDataset", "args": {"data": []}}]}},
            "optimizer": {"type": "Adam", "args": {}},
            "loss": {"type": "CTCLoss", "args": {}},
            "metrics": [],
            "trainer": {"epochs": 1, "save_dir": str(self.directory), "monitor": "off"},
        }
        path = self.directory / "config.json"
        path.write_text(json.dumps(config))
        texts = [mock.Mock(text=text) for text in ("don't stop", None, "go now")]
        with (
            mock.patch("hw_asr.experiment.validation.validate", side_effect=lambda raw, _: _Config(raw)),
            mock.patch("hw_asr.experiment.components.build_corpora", return_value=[]),
            mock.patch("hw_asr.experiment.components.select_utterances", return_value=(texts, {})),
        ):
            status, output = self.run_command("--config", path, "--discount-fallback")
            self.assertEqual(0, status, output)
            self.assertEqual({"don't", "stop", "go", "now"}, self.words())
            status, output = self.run_command("--config", path, "--split", "val")
        self.assertEqual((1, "error: --split val: the config has no such split; known: train\n"), (status, output))

    def test_faults_are_one_clear_line(self) -> None:
        cut = self.directory / "cut.gz"
        cut.write_bytes(gzip.compress(b"words of a text\n" * 99)[:-20])
        other = self.directory / "other.gz"
        other.write_text("words of a text")
        latin = self.directory / "latin.txt"
        latin.write_bytes("caf\xe9".encode("latin-1"))
        for arguments, message in (
            (("--text", self.directory / "none.txt"), "none.txt: cannot read it: No such file"),
            (("--text", cut), "cut.gz: the compressed file ends too early"),
            (("--text", other), "other.gz: not a gzip file, or a damaged one"),
            (("--text", latin), "latin.txt: not UTF-8 text"),
            (("--text", self.text), "--discount-fallback"),
            (("--text", self.text, "--discount-fallback", 1), "expected three values, got 1"),
            (("--text", self.text, "--order", 9), "order: expected 1 to 6, got 9"),
            (("--text", self.text, "--prune", 1), "prune: the first value must be 0"),
            (("--config", self.directory / "none.json"), "none.json"),
        ):
            with self.subTest(arguments):
                status, output = self.run_command(*arguments)
                self.assertEqual(2 if "--config" in arguments else 1, status)
                self.assertIn(message, output)
                self.assertFalse(self.output.exists())
        with self.assertRaises(SystemExit):
            self.run_command()

    @unittest.skipUnless(shutil.which("bash"), "limits the size of files with bash")
    def test_a_disk_that_is_full(self) -> None:
        self.text.write_text("".join(f"word{number} and word{number // 2}\n" for number in range(20_000)))
        script = f"ulimit -f 8; exec {sys.executable} {ROOT}/scripts/language_model/build.py --text text.txt"
        done = subprocess.run(
            ["bash", "-c", f"{script} --alphabet abcdefghijklmnopqrstuvwxyz0123456789 --discount-fallback -o lm.arpa"],
            cwd=self.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertRegex(done.stderr, "^error: --output: cannot write lm.arpa: ")
        self.assertFalse(self.output.exists())

    def test_runs_as_a_script_from_anywhere(self) -> None:
        script = ROOT / "scripts/language_model/build.py"
        arguments = ["--text", "text.txt", "-o", "lm.arpa", "--discount-fallback"]
        finished = subprocess.run(
            [sys.executable, script, *arguments], cwd=self.directory, capture_output=True, text=True, check=False
        )
        self.assertEqual(0, finished.returncode, finished.stderr)
        self.assertEqual("", finished.stderr)
        self.assertTrue(self.output.is_file())


class _Config:
    """What the command needs of an ExperimentConfig."""

    def __init__(self, raw: dict[str, object]) -> None:
        self.text_encoder = raw["text_encoder"]
        self.data = raw["data"]


if __name__ == "__main__":
    unittest.main()
