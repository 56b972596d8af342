"""The listen command: files, pipes, microphones, terminals, JSON, Ctrl-C and closed pipes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import types
import unittest
from collections import deque
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile

import hw_asr
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.cli.errors import UsageError
from hw_asr.cli.main import run
from hw_asr.commands import listen
from hw_asr.streaming.display import Lines
from hw_asr.streaming.stream import Partial
from hw_asr.tests.missing_packages import missing
from hw_asr.tests.streaming_case import make_random, random_config
from hw_asr.tests.test_streaming import RATE, sounds
from hw_asr.tests.transcribe_case import ROOT, TranscribeCase


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class InterruptedQueue(deque[Any]):
    """A queue after whose last element the user presses Ctrl-C."""

    put = deque.append

    def get(self, timeout: float) -> Any:
        if not self:
            signal.raise_signal(signal.SIGINT)
        return self.popleft()


class ListenCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        samples = np.concatenate([sounds(np.random.default_rng(seed), 3.0) for seed in (1, 2)])
        samples[3 * RATE : round(4.5 * RATE)] = 0.0
        cls.samples = (samples * 32767).astype(np.int16)
        cls.recording = cls.folder / "talk.wav"
        soundfile.write(cls.recording, cls.samples, RATE)
        cls.checkpoint = cls.folder / "model.pth"
        for seed in range(100):  # many random networks find no text
            config = random_config(np.random.default_rng(seed), "abcdef ", normalize="global")
            save_checkpoint({"state_dict": make_random(config).model.state_dict(), "config": config}, cls.checkpoint)
            cls.recogniser = hw_asr.load(cls.checkpoint, decoder="argmax", device="cpu")
            cls.expected = cls.recogniser.transcribe(cls.samples, RATE)
            if len(cls.expected.segments) > 1 and len(cls.expected.text) > 20:
                return
        raise AssertionError("no random network finds text in two segments")

    def arguments(self, *arguments: str) -> list[str]:
        return ["-r", str(self.checkpoint), "--decoder", "argmax", "--device", "cpu", *arguments]

    def listen(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            self.assertEqual(run("listen", self.arguments(*arguments)), code, errors.getvalue())
        return output.getvalue(), errors.getvalue()

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "scripts/listen.py"), *self.arguments(*arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, **{**pipes, **options})


class ListenTest(ListenCase):
    def test_a_file_gives_a_line_for_each_segment(self) -> None:
        output, errors = self.listen(str(self.recording))
        self.assertEqual(output.splitlines(), [segment.text for segment in self.expected.segments])
        self.assertGreater(len(self.expected.segments), 1)
        self.assertEqual(errors, "")

    def test_json_lines_are_partial_results_segments_and_the_final_result(self) -> None:
        events = [json.loads(line) for line in self.listen(str(self.recording), "--json")[0].splitlines()]
        self.assertEqual({event["event"] for event in events}, {"partial", "segment", "final"})
        final = events[-1]
        self.assertEqual((final["event"], final["text"]), ("final", self.expected.text))
        segments = [event["text"] for event in events if event["event"] == "segment"]
        self.assertEqual(segments, [segment.text for segment in self.expected.segments])
        ended = 0
        for event in events:
            if event["event"] == "segment":
                ended += 1
            elif event["event"] == "partial" and ended < len(segments):
                self.assertTrue(segments[ended].startswith(event["stable"]), event)

    def test_a_terminal_shows_the_text_in_place(self) -> None:
        output, status = Terminal(), Terminal()
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(status),
            mock.patch("shutil.get_terminal_size", return_value=os.terminal_size((12, 5))),
        ):
            self.assertEqual(run("listen", self.arguments(str(self.recording))), 0)
        self.assertEqual(output.getvalue().splitlines(), [segment.text for segment in self.expected.segments])
        painted = status.getvalue().split("\r")
        self.assertGreater(len(painted), 6)
        self.assertTrue(all(len(text) < 12 and "\n" not in text for text in painted))
        self.assertEqual(painted[-1].strip(), "")

    def test_wide_characters_take_two_columns_of_a_terminal(self) -> None:
        status = Terminal()
        lines = Lines(io.StringIO(), status)
        with mock.patch("shutil.get_terminal_size", return_value=os.terminal_size((12, 5))):
            for text in ("語" * 20, "ab"):
                lines.show(Partial(text, "", (), 1.0))
        painted = status.getvalue().split("\r")
        self.assertEqual(painted[1:], ["語" * 5, "語" * 5, "ab" + " " * 8, "ab"])

    def test_an_interrupted_pipe_gives_what_was_said(self) -> None:
        process = self.start("-", "--json")
        assert process.stdin and process.stdout and process.stderr
        half = self.samples[: 3 * RATE].tobytes()
        process.stdin.write(half + b"x")  # an odd byte is the first half of a sample
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        self.assertEqual(first["event"], "partial")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        self.assertEqual((process.returncode, errors), (0, b""))
        final = json.loads(output.splitlines()[-1])
        heard = round(final["duration"] * RATE)
        self.assertTrue(0 < heard <= 3 * RATE)
        expected = self.recogniser.transcribe(self.samples[:heard], RATE)
        self.assertEqual((final["event"], final["text"]), ("final", expected.text))

    def test_a_closed_output_ends_the_command_quietly(self) -> None:
        process = self.start("-", "--json")
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(self.samples.tobytes())
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(100 * self.samples.tobytes())
            process.stdin.close()
        self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(120), 141)
        process.stderr.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    def test_a_pipe_of_another_rate(self) -> None:
        doubled = np.repeat(self.samples, 2).tobytes()
        read, write = os.pipe()
        with os.fdopen(write, "wb") as writer, os.fdopen(read, "rb") as reader:
            writer.write(doubled[:60_000])
            writer.close()
            with mock.patch("sys.stdin", types.SimpleNamespace(buffer=reader)):
                output, _ = self.listen("-", "--rate", str(2 * RATE), "--json")
        self.assertAlmostEqual(json.loads(output.splitlines()[-1])["duration"], 15_000 / RATE, places=2)


class MicrophoneTest(ListenCase):
    """With a double of sounddevice: a machine that runs tests has no microphone."""

    def sounddevice(self, rates: set[int], samples: np.ndarray) -> Any:
        class PortAudioError(Exception):
            pass

        class InputStream:
            active = False  # after the last sample, as if it was unplugged

            def __init__(self, samplerate: int, blocksize: int, callback: Any, **_: Any) -> None:
                if samplerate not in rates:
                    raise PortAudioError(f"Invalid sample rate {samplerate}")
                self.size, self.callback = blocksize, callback

            def __enter__(self) -> None:
                for start in range(0, len(samples), self.size):
                    self.callback(samples[start : start + self.size, None], self.size, None, None)

            def __exit__(self, *_: object) -> None:
                pass

        def query_devices(kind: str) -> dict[str, float]:
            if not rates:
                raise PortAudioError("Error querying device -1")
            return {"default_samplerate": float(max(rates))}

        return types.SimpleNamespace(
            InputStream=InputStream, PortAudioError=PortAudioError, query_devices=query_devices
        )

    def test_a_microphone_is_heard_until_it_is_interrupted(self) -> None:
        for rate in (RATE, 2 * RATE):
            samples = np.repeat(self.samples, rate // RATE)
            double = self.sounddevice({rate}, samples)
            queues = types.SimpleNamespace(SimpleQueue=InterruptedQueue, Empty=queue.Empty)
            with (
                mock.patch.dict(sys.modules, sounddevice=double),
                mock.patch("hw_asr.streaming.sources.queue", queues),
            ):
                output, errors = self.listen("--microphone", "--json")
            final = json.loads(output.splitlines()[-1])
            self.assertIn("Ctrl-C", errors)
            self.assertEqual(final["event"], "final")
            self.assertAlmostEqual(final["duration"], len(self.samples) / RATE, places=2)
            if rate == RATE:
                self.assertEqual(final["text"], self.expected.text)

    def test_an_unplugged_microphone_ends_the_recording(self) -> None:
        with (
            mock.patch.dict(sys.modules, sounddevice=self.sounddevice({RATE}, self.samples)),
            mock.patch("hw_asr.streaming.sources.SILENT_SECONDS", 0.01),
        ):
            output, errors = self.listen("--microphone", "--json")
        self.assertEqual(json.loads(output.splitlines()[-1])["text"], self.expected.text)
        self.assertIn("the microphone has stopped; the recording ends here", errors)

    def test_what_is_missing_is_said(self) -> None:
        with mock.patch.dict(sys.modules, sounddevice=self.sounddevice(set(), self.samples)):
            errors = self.listen("--microphone", code=1)[1]
        self.assertRegex(errors, "no microphone can be opened: .*; connect one, or give a file or -")
        with missing("sounddevice"):
            errors = self.listen("--microphone", code=1)[1]
        self.assertIn("a microphone needs the package sounddevice: pip install 'hw_asr[microphone]'", errors)


class WrongUseTest(TranscribeCase):
    def test_a_network_that_needs_whole_recordings_is_refused(self) -> None:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertEqual(run("listen", ["-r", str(self.checkpoint), str(self.audio)]), 1)
        self.assertRegex(errors.getvalue(), "cannot recognise live audio: the network is bidirectional.*; train one")

    def test_a_closed_standard_input(self) -> None:
        with mock.patch("sys.stdin", None), self.assertRaisesRegex(UsageError, "standard input is closed"):
            listen._source(argparse.Namespace(microphone=False, source="-"), mock.Mock())

    def test_options_that_do_not_fit(self) -> None:
        for arguments in ([], ["x.wav", "--microphone"], ["x.wav", "--rate", "8000"], ["-", "--real-time"]):
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as raised:
                run("listen", ["-r", "model.pth", *arguments])
            self.assertEqual(raised.exception.code, 2)
            self.assertIn("usage:", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
