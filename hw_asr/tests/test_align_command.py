"""File formats of alignments, and the align command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import unittest

from hw_asr.alignment.formats import FORMATS, Options
from hw_asr.alignment.result import AlignedWord, Alignment, ExtraSpeech
from hw_asr.cli.main import run
from hw_asr.tests.transcribe_case import ROOT, TranscribeCase
from hw_asr.types import Word


class FormatTest(unittest.TestCase):
    ALIGNMENT = Alignment(
        (
            AlignedWord('Say "yes",', 0.5, 1.0, 0.9, True, "say yes", (Word("s", 0.5, 0.6, 0.8),)),
            AlignedWord("never", None, None, 0.0, False, "never"),
            AlignedWord("again", 1.0, 1.5, 0.7, True, "again"),
        ),
        (ExtraSpeech(2.0, 2.5, "hm hm hm", 3),),
        3.0,
    )

    def text(self, name: str, characters: bool = False) -> str:
        return FORMATS[name](self.ALIGNMENT, Options("my talk", characters))

    def test_json(self) -> None:
        data = json.loads(self.text("json"))
        self.assertEqual(data["words"][0]["word"], 'Say "yes",')
        self.assertEqual([word["spoken"] for word in data["words"]], [True, False, True])
        self.assertEqual(data["extra_speech"], [{"start": 2.0, "end": 2.5, "heard": "hm hm hm", "after_word": 3}])
        self.assertNotIn("characters", data["words"][0])
        self.assertEqual(len(json.loads(self.text("json", characters=True))["words"][0]["characters"]), 1)

    def test_intervals_of_a_textgrid_cover_the_recording(self) -> None:
        lines = [line.strip() for line in self.text("textgrid", characters=True).splitlines()]
        self.assertEqual([line for line in lines if line.startswith("name")],
                         ['name = "words"', 'name = "characters"', 'name = "not in the text"'])  # fmt: skip
        self.assertIn('text = "Say ""yes"","', lines)
        position = 0.0
        for index, line in enumerate(lines):
            if line.startswith("intervals ["):
                start, end = (float(lines[index + number].split(" = ")[1]) for number in (1, 2))
                self.assertEqual(start, position)
                position = end if end < 3.0 else 0.0
        self.assertEqual(sum(line.startswith("intervals [") for line in lines), 4 + 3 + 3)

    def test_words_that_are_spoken_are_in_the_other_formats(self) -> None:
        self.assertEqual(
            self.text("ctm"), 'my_talk 1 0.500 0.500 Say_"yes", 0.9000\nmy_talk 1 1.000 0.500 again 0.7000\n'
        )
        self.assertIn('00:00:00,500 --> 00:00:01,500\nSay "yes", again\n', self.text("srt"))
        self.assertTrue(self.text("vtt").startswith("WEBVTT"))


class CommandTest(TranscribeCase):
    def align(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            found = run("align", ["-r", str(self.checkpoint), "-d", "cpu", *arguments])
        self.assertEqual(found, code, errors.getvalue())
        return printed.getvalue(), errors.getvalue()

    def test_formats_and_forced_alignment(self) -> None:
        audio, text = str(self.audio / "00.opus"), self.texts / "00.txt"
        words = text.read_text().split()
        for ending in ("json", "TextGrid", "srt", "vtt", "ctm"):
            self.align(audio, str(text), "-o", str(self.folder / f"a.{ending}"), "--forced")
            self.assertIn(words[0], (self.folder / f"a.{ending}").read_text())
        printed, _ = self.align(audio, "--text", text.read_text(), "--forced", "--characters")
        placed = json.loads(printed)["words"]
        self.assertEqual([word["word"] for word in placed], words)
        self.assertTrue(all(len(word["characters"]) == len(word["word"].strip("!")) for word in placed))
        _, errors = self.align(audio, "--text", "Привет 42 hello")
        self.assertIn("8 characters of the text are not in the model's alphabet", errors)

    def test_standard_output_gets_the_file_as_it_is(self) -> None:
        command = [sys.executable, str(ROOT / "scripts" / "align.py"), "-r", str(self.checkpoint), "-d", "cpu"]
        text = "café \u200f" + (self.texts / "00.txt").read_text()
        command += [str(self.audio / "00.opus"), "--text", text, "--forced", "--format", "srt"]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        self.assertIn("café \u200f", done.stdout.decode())

    def test_a_file_name_that_is_not_utf_8_keeps_its_bytes(self) -> None:
        audio, output = self.folder / os.fsdecode(b"caf\xe9.opus"), self.folder / "bytes.ctm"
        try:
            shutil.copy(self.audio / "00.opus", audio)
        except OSError:
            self.skipTest("file names are UTF-8 here")
        self.align(str(audio), str(self.texts / "00.txt"), "-o", str(output), "--forced")
        self.assertTrue(output.read_bytes().startswith(b"caf\xe9 1 "))

    def test_errors(self) -> None:
        audio = str(self.audio / "00.opus")
        for arguments, message in (
            ((audio, "--text", " "), "the text is empty"),
            ((audio, str(self.folder / "none.txt")), "none.txt: cannot read the text: no such file"),
            ((audio, audio), "the text is not UTF-8"),
            ((audio, "--text", "caf\udce9"), "--text: the text is not UTF-8"),
            ((str(self.folder / "none.wav"), "--text", "a"), "none.wav"),
            ((audio, "--text", "word " * 500, "--forced"), "characters cannot be aligned to"),
            ((audio, "--text", "a", "-o", str(self.folder), "--format", "ctm"), "is a directory"),
        ):
            with self.subTest(message):
                self.assertIn(message, self.align(*arguments, code=1)[1])
        for arguments in (
            (audio,),
            (audio, str(self.texts / "00.txt"), "--text", "a"),
            (audio, "--text", "a", "-o", "a.doc"),
            (audio, "--text", "a", "-o", "a.json", "--segments", "a.json"),
        ):
            with self.subTest(arguments), self.assertRaises(SystemExit):
                self.align(*arguments)


if __name__ == "__main__":
    unittest.main()
