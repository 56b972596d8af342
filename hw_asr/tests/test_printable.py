"""Control characters of file names, transcripts and servers never reach a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from tqdm import tqdm

from hw_asr.cli.main import run
from hw_asr.commands import score_table
from hw_asr.recognition.timing import Seconds
from hw_asr.runtime.console import aligned, set_up_logging
from hw_asr.runtime.entry_point import run_command
from hw_asr.runtime.printable import PrintableStream, has_control_characters, printable, printable_line
from hw_asr.storage.run_names import RunError, RunId, is_safe_name
from hw_asr.storage.runs import Runs

CONTROL = [*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(127, 160)), "\u061c", "\u200e",
           "\u200f", *map(chr, range(0x2028, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\ufeff",
           "\ud800", "\udcff"]  # fmt: skip
TABLE = "table\nrow a\x1b[2J"
HOSTILE = "a\x1b]52;c;aGFjaw==\x07\x9b2J\u202egpj.wav"


class PrintableTest(unittest.TestCase):
    def test_each_control_character_becomes_an_escape_and_the_rest_stays(self) -> None:
        for character in CONTROL:
            self.assertEqual(f"<\\u{ord(character):04x}>", printable(f"<{character}>"))
            self.assertTrue(has_control_characters(character))
        for text in ("abc äöü ß", "русский", "日本語", "فارسی‌", "👍🏽", "a\\b"):
            self.assertEqual(text, printable_line(text))
        self.assertEqual(("a\n\tb", "a\\u000a\\u0009b"), (printable("a\n\tb"), printable_line("a\n\tb")))

    def test_escapes_inside_json_are_json(self) -> None:
        name = "\x9b\u202e\x7f"
        self.assertEqual([name], json.loads(printable(json.dumps([name], ensure_ascii=False))))

    def test_run_names(self) -> None:
        for character in [*CONTROL, "\n", "\t"]:
            self.assertFalse(is_safe_name(f"a{character}b"), repr(character))
        self.assertEqual([is_safe_name("\u0436" * number) for number in (100, 101)], [True, False])
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(RunError, "control characters") as caught:
            Runs(Path(folder)).create("experiment", HOSTILE)
        self.assertFalse(has_control_characters(str(caught.exception)))
        with self.assertRaises(RunError):
            RunId.parse(f"a:{HOSTILE}")

    def test_tables(self) -> None:
        self.assertFalse(has_control_characters(aligned([[HOSTILE, "1"], ["b\nc", "2"]]).replace("\n", "")))
        table = score_table.summary([{"audio_path": HOSTILE, "duration": None, "error": HOSTILE}], Seconds())
        self.assertFalse(has_control_characters(table.replace("\n", "")))

    def test_log_lines_on_the_terminal_and_in_the_file(self) -> None:
        self.addCleanup(logging.getLogger("hw_asr").handlers.clear)
        terminal = io.StringIO()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "train.log")
            with contextlib.redirect_stderr(terminal):
                set_up_logging(1, path)
                logging.getLogger("hw_asr.x").warning("%s: %d %s", f"{HOSTILE}\nerror: forged", 3, Path(HOSTILE))
                logging.getLogger("hw_asr.x").info(TABLE)
            for text in (terminal.getvalue(), path.read_text(encoding="utf-8")):
                self.assertFalse(has_control_characters(text.replace("\n", "")), repr(text))
                self.assertNotIn("\nerror: forged", text)
                self.assertIn("table\nrow a", text)
            set_up_logging(1)

    @unittest.skipUnless(Path("/dev/full").exists(), "needs /dev/full")
    def test_a_log_on_a_full_disk_is_one_warning(self) -> None:
        self.addCleanup(logging.getLogger("hw_asr").handlers.clear)
        terminal = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(terminal):
            set_up_logging(1, Path(folder, "train.log"))
            (file,) = (each for each in logging.getLogger("hw_asr").handlers if isinstance(each, logging.FileHandler))
            file.setStream(Path("/dev/full").open("a")).close()  # noqa: SIM115  (the handler closes it)
            for number in range(3):
                logging.getLogger("hw_asr.x").info("line %d", number)
            with contextlib.suppress(OSError):
                file.close()
        lines = terminal.getvalue().splitlines()
        self.assertEqual(["line 0", "line 1", "line 2"], [line for line in lines if line.startswith("line")])
        (warning,) = (line for line in lines if not line.startswith("line"))
        self.assertRegex(warning, "^warning: cannot write .*train.log: No space left on device$")

    def test_errors_of_commands(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stderr(output):
            self.assertEqual(1, run("report", [f"{HOSTILE}.json"]))
        self.assertFalse(has_control_characters(output.getvalue().rstrip("\n")), repr(output.getvalue()))

    def test_what_a_command_prints(self) -> None:
        output, errors = io.StringIO(), io.StringIO()

        def main() -> int:
            print(HOSTILE)
            print(f"{HOSTILE}\r", file=sys.stderr)
            return 0

        with mock.patch.object(sys, "stdout", output), mock.patch.object(sys, "stderr", errors):
            with self.assertRaises(SystemExit):
                run_command(main)
            self.assertIs(output, sys.stdout)
        self.assertEqual(f"{printable(HOSTILE)}\n", output.getvalue())
        self.assertEqual(f"{printable(HOSTILE)}\r\n", errors.getvalue())

    def test_progress_bars_are_drawn_and_their_text_is_escaped(self) -> None:
        plain, wrapped = io.StringIO(), io.StringIO()
        for stream, file in ((plain, plain), (wrapped, PrintableStream(wrapped, bars=True))):
            with tqdm(total=2, file=file, mininterval=0, ncols=60, bar_format="{desc}|{n}"):
                for _ in tqdm(range(2), file=file, mininterval=0, position=1, leave=False, bar_format="{desc}|{n}"):
                    pass
            self.assertIn("\r", stream.getvalue())
        self.assertEqual(plain.getvalue(), wrapped.getvalue())
        self.assertIn("\x1b[A", plain.getvalue())
        PrintableStream(wrapped, bars=True).write(HOSTILE)
        self.assertIn(printable(HOSTILE), wrapped.getvalue())


if __name__ == "__main__":
    unittest.main()
