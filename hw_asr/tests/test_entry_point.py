"""Exit codes of commands; `command | head` ends quietly, other broken pipes are errors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from hw_asr.runtime.entry_point import run_command
from hw_asr.tests.training_case import TrainingCase, wait_for_step
from hw_asr.tests.waiting import DEADLINE, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    ["train.py", "--help"],
    ["scripts/report.py", "--help"],
    ["scripts/model_loader/model_loader.py", "download", "--help"],
]


def run_with_closed_output(*command: str, unbuffered: bool) -> tuple[int, str]:
    """Run a command whose standard output is closed; return its exit code and standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if unbuffered:
        environment["PYTHONUNBUFFERED"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True,
            timeout=DEADLINE,
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@unittest.skipUnless(os.name == "posix", "pipes end differently on Windows")
class ClosedOutputTest(unittest.TestCase):
    def test_commands_exit_quietly(self) -> None:
        for command in COMMANDS:
            with self.subTest(command=" ".join(command)):
                self.assertEqual((141, ""), run_with_closed_output(*command, unbuffered=False))
        check = ["train.py", "-c", "hw_asr/configs/demo.json", "--check", "-d", "cpu"]
        self.assertEqual((141, ""), run_with_closed_output(*check, unbuffered=True))

    def test_every_script_runs_through_run_command(self) -> None:
        scripts = [*ROOT.glob("*.py"), *(ROOT / "scripts").rglob("*.py")]
        starts = [path.read_text(encoding="utf-8").partition('if __name__ == "__main__":\n')[2] for path in scripts]
        self.assertEqual({"    run_command(main)\n"}, {start for start in starts if start})
        self.assertGreaterEqual(sum(map(bool, starts)), 12)

    def test_a_page_is_written_before_its_summary_is_printed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output, page = Path(folder) / "output.json", Path(folder) / "page.html"
            output.write_text('[{"audio_path": "a.wav", "pred_text_argmax": "b", "ground_truth": "b"}]')
            arguments = ["scripts/report.py", "--compare", str(output), str(output), "-o", str(page)]
            self.assertEqual((141, ""), run_with_closed_output(*arguments, unbuffered=True))
            self.assertTrue(page.is_file())

    def test_another_broken_pipe_is_an_error(self) -> None:
        def main() -> int:
            raise BrokenPipeError("the data worker has exited")

        with self.assertRaisesRegex(BrokenPipeError, "the data worker has exited"):
            run_command(main)

    def test_exit_codes(self) -> None:
        def interrupted() -> int:
            raise KeyboardInterrupt

        for main, code in ((lambda: 2, 2), (interrupted, 130)):
            with self.assertRaises(SystemExit) as caught:
                run_command(main)
            self.assertEqual(code, caught.exception.code)


class ExitTest(unittest.TestCase):
    def test_output_is_written_and_exit_handlers_run(self) -> None:
        program = """
import atexit, sys
from hw_asr.runtime.entry_point import run_command
def main():
    atexit.register(print, "at exit")
    print("printed", end=" ")
    return 3
run_command(main)
"""
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((3, "printed at exit\n", ""), (done.returncode, done.stdout, done.stderr))


class TrainingWithClosedOutputTest(TrainingCase):
    @unittest.skipUnless(os.name == "posix", "needs a named pipe")
    def test_training_continues_without_its_output(self) -> None:
        place = self.place(self.config(epochs=2, early_stop=None))
        pipe = place / "output.txt"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, pipe)
        log = place / "saved/log/tones/run/train.log"
        wait_until(log.is_file)
        wait_for_step(log, 2)
        os.close(reader)
        self.assertEqual(0, self.server.wait(process))
        text = log.read_text(encoding="utf-8")
        self.assertIn("epoch 2/2 100%", text)
        self.assertIn("done in", text)


if __name__ == "__main__":
    unittest.main()
