"""Nothing that test.py has recognised is lost: killed, interrupted, out of disk, it continues where it stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import soundfile

from hw_asr.commands.partial_results import PartialResults
from hw_asr.datasets.audio import read_audio
from hw_asr.tests.transcribe_case import ROOT, TranscribeCase

STOP_AFTER = """
import os, resource, signal, sys
from hw_asr.commands.partial_results import PartialResults
import test

count, what = int(sys.argv.pop(1)), sys.argv.pop(1)
add = PartialResults.add

def counted(self, *arguments):
    add(self, *arguments)
    if len(self) == count and what == "disk":  # as a full disk: no file may grow beyond what this one has
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size + 10,) * 2)
    elif len(self) == count and what == "page":  # as a full disk: the page cannot be written
        os.mkdir("page.html")
    elif len(self) == count:
        os.kill(os.getpid(), getattr(signal, what))

PartialResults.add = counted
test.run_command(test.main)
"""
"""Runs test.py and does something to it after a number of results."""


@unittest.skipUnless(os.name == "posix", "signals and limits of POSIX")
class InterruptionTest(TranscribeCase):
    def setUp(self) -> None:
        for path in self.partials():
            path.unlink()

    def partials(self) -> list[Path]:
        return sorted(self.folder.glob(".output.json.*partial"))

    def start(self, count: int, what: str, *options: str) -> subprocess.Popen[str]:
        """Start test.py, which does something when it has `count` results."""
        (self.folder / "output.json").unlink(missing_ok=True)
        given = ["-r", str(self.checkpoint), "-t", str(self.audio), "-o", str(self.folder / "output.json"), *options]
        command = [sys.executable, "-c", STOP_AFTER, str(count), what, *given, "-d", "cpu", "-b", "4", "-j", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def stop_after(self, count: int, what: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run test.py until it has `count` results; send it a signal, or let it find the disk full."""
        process = self.start(count, what, *options)
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def continued(self, *options: str, expected: int | None) -> list[dict[str, Any]]:
        """Run test.py to its end; it must say that it continues after `expected` results, or not say so."""
        entries, printed = self.run_test("-t", str(self.audio), "-b", "4", "-j", "0", *options)
        said = re.findall(r"continuing after (\d+) results", printed)
        self.assertEqual(said, [] if expected is None else [str(expected)])
        return entries

    def test_killed_and_continued(self) -> None:
        whole, _ = self.run_test("-t", str(self.audio), "-b", "4", "-j", "0")
        self.assertEqual(-9, self.stop_after(6, "SIGKILL").returncode)
        self.assertFalse((self.folder / "output.json").exists())
        with self.partials()[0].open("ab") as file:
            file.write(b'{"recording": "cut off')
        # Batches are others, so that the last digits of probabilities differ.
        continued = self.continued(expected=6)
        self.assertEqual([], self.partials())
        for key in ("audio_path", "duration", "pred_text_argmax", "ground_truth", "wer"):
            self.assertEqual([entry.get(key) for entry in continued], [entry.get(key) for entry in whole])

    def test_interrupted_and_continued_unless_something_changed(self) -> None:
        whole, _ = self.run_test("-t", str(self.audio), "-b", "4", "-j", "0")
        done = self.stop_after(6, "SIGINT")
        self.assertEqual(130, done.returncode)
        self.assertIn("interrupted: 6 results are kept; run the same command again to continue", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        partial, kept = self.partials()[0], self.partials()[0].read_bytes()
        first = json.loads(json.loads(kept.splitlines()[1])["recording"])[1]
        samples, content = read_audio(Path(first), 16_000), Path(first).read_bytes()
        soundfile.write(first, samples[: len(samples) // 2], 16_000, format="WAV")
        changed = self.continued(expected=6)
        shorter = [entry for entry, other in zip(changed, whole, strict=True) if entry["duration"] < other["duration"]]
        self.assertEqual([entry["audio_path"] for entry in shorter], [first])
        Path(first).write_bytes(content)
        for options in (
            ["--set", "trainer.beam_size=101"], ["--chunk-seconds", "20"], ["-t", str(self.audio / "00.opus")],
            ["--overwrite"],
        ):  # fmt: skip
            with self.subTest(options=options):
                partial.write_bytes(kept)
                self.continued(*options, expected=None)
                self.assertEqual([] if options == ["--overwrite"] else [partial], self.partials())

    def test_another_command_leaves_and_names_what_an_interrupted_one_has_kept(self) -> None:
        self.stop_after(6, "SIGKILL")
        earlier_version = self.folder / ".output.json.partial"
        earlier_version.write_text('{"key": "k"}\n')
        _, printed = self.run_test("-t", str(self.audio / "00.opus"))
        for path in self.partials():
            self.assertIn(f"{path}: kept by a run with other recordings, checkpoint, config or options", printed)
        self.assertEqual(33, len(self.continued(expected=6)))
        self.assertEqual([earlier_version], self.partials())
        self.assertFalse((self.folder / ".output.json.lock").exists())

    def test_an_output_is_written_by_one_run_at_a_time(self) -> None:
        process = self.start(6, "SIGSTOP")
        os.waitpid(process.pid, os.WUNTRACED)
        for options in ([], ["--chunk-seconds", "20"]):
            _, printed = self.run_test("-t", str(self.audio), *options, code=1)
            expected = rf"--output: process {process.pid} on .* is writing .*output\.json; give another --output"
            self.assertRegex(printed, expected)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=300)
        self.assertEqual(0, process.returncode, errors)
        self.assertEqual(33, len(json.loads((self.folder / "output.json").read_text())))

    def test_results_are_kept_until_everything_is_written(self) -> None:
        page = self.folder / "page.html"
        done = self.stop_after(33, "page", "--report", str(page))
        self.assertEqual(1, done.returncode)
        self.assertRegex(done.stderr, "--report: cannot write .*; the results are kept, run the same command again")
        page.rmdir()
        self.continued("--report", str(page), expected=33)
        self.assertTrue(page.is_file())
        self.assertEqual([], self.partials())

    def test_a_full_disk(self) -> None:
        done = self.stop_after(6, "disk")
        self.assertEqual(1, done.returncode)
        self.assertRegex(done.stderr, r"error: --output: cannot write .*\.partial: .*; 6 results are kept, run the")
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(33, len(self.continued(expected=6)))


class OutputsTest(TranscribeCase):
    def test_places_that_cannot_be_written_are_found_before_recognition(self) -> None:
        (self.folder / "file").write_text("")
        for options, message in (
            (["--report", str(self.folder)], "--report: .* is a directory"),
            (
                ["--report", str(self.folder / "file" / "page.html")],
                "--report: cannot write .*a part of its path is a file",
            ),
            (["--srt", str(self.folder / "file")], "--srt: .* is a file; give a directory"),
            (["-o", os.devnull], "--output: .* is not a regular file"),
            (["-o", "/dev/stdout"], "--output: .*/dev/stdout.*not a regular file"),
        ):
            with self.subTest(options=options):
                _, printed = self.run_test("-t", str(self.audio), *options, code=1)
                self.assertRegex(printed, message)
                self.assertNotIn("Traceback", printed)

    def test_files_that_are_not_from_an_earlier_run_are_not_replaced(self) -> None:
        recording, output = self.audio / "own.wav", self.folder / "output.json"
        soundfile.write(recording, [0.0] * 1600, 16_000)
        self.addCleanup(recording.unlink)
        manifest = self.folder / "list.json"
        manifest.write_text("[]")
        for options, message in (
            (["-o", str(recording)], "--output: .*own.wav exists and is not from an earlier run; delete it or"),
            (["-o", str(self.checkpoint)], "--output: .* is also an input; give another --output"),
            (["-o", str(manifest), "-t", str(manifest)], "--output: .*list.json is also an input"),
            (["--report", str(recording)], "--report: .* is not from an earlier run"),
            (["-o", str(output), "--report", str(output)], "--report: .* is also the --output"),
        ):
            kept = {path: path.read_bytes() for path in (recording, self.checkpoint, manifest)}
            with self.subTest(options=options):
                _, printed = self.run_test("-t", str(self.audio), *options, code=2 if str(output) in options else 1)
                self.assertRegex(printed, message)
                self.assertEqual(kept, {path: path.read_bytes() for path in kept})

    def test_damaged_partial_results_are_not_used(self) -> None:
        output = self.folder / "damaged.json"
        path = self.folder / ".damaged.json.k.partial"
        for content in (b"", b"\n", b"nonsense\n", b'{"key": "other"}\n', b'{"key": "k"}\n{"entry": {}}\n', b"[1]\n"):
            with self.subTest(content=content), self.assertLogs("hw_asr", "WARNING"):
                path.write_bytes(content)
                partial = PartialResults(output, "k", overwrite=False)
                partial.close()
                self.assertEqual(0, len(partial))
                self.assertEqual(b'{"key": "k"}\n', path.read_bytes())


if __name__ == "__main__":
    unittest.main()
